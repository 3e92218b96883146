"""Writes models/tests/vectors/text: prompts as the tokenizers of CLIP, SigLIP and SigLIP 2 number them, and what the text towers
and both towers together make of them, by transformers and open_clip. Weights follow from their names (`scripts/vectors.py`).

    python scripts/vectors_text.py [NAME...]

Needs numpy, torch, safetensors, transformers, sentencepiece, protobuf, open_clip_torch, ftfy and regex in an environment of its
own, for image towers of timm's timm too. Tokenizers are trained here on made-up sentences. Each NAME.json.gz has prompts and their
numbers; with a model also its settings and the shapes of its tensors, beside a NAME.npz (`embeddings`, unit vectors of the prompts, and
`logits`), computed in float64 and stored as float32. Where the image tower is timm's there are `image`, its embedding, and `grad`, the
gradient of the summed cross-entropy of that embedding towards the pixels.
"""
import gzip
import json
import pathlib
import random
import sys
import tempfile

import numpy as np
import torch

from vectors import OUT, check_slope, image, tensor

PLACE = OUT / "text"
WORDS = """a an the photo picture sketch of in on under near with and it's cat dog bird horse frog ship truck plane tree house
tiny large old new dark bright red green blue Zürich café straße mañana naïve""".split()
AWKWARD = [
    "a photo of a cat", "A Photo, of a CAT!", "it's a dog's café", "  two   spaces\tand a tab ", "Zürich in the DARK", "straße (old)",
    "ＦＵＬＬ　ｗｉｄｔｈ cat", "ﬁsh ½ ① ™", "a cat 🐈 and a dog", "日本語 の 猫", "under_score re-do", "ΣΊΣΥΦΟΣ İn", "cat\u00a0dog\u2003bird",
    "a ¨x", "a\u200bzero\u0301 width", "e\u0301 and é", "“quotes” … it’s", "1234 100% C++", "ｶﾞ a",
]
# A few of Unicode's compatibility rules: the table of all of them is a third of a megabyte.
RULES = {"\u00a0": " ", "\u2003": " ", "\u3000": " ", "½": "1⁄2", "①": "1", "™": "tm", "ﬁ": "fi", "…": "...", "¨": " \u0308",
         "e\u0301": "é", "o\u0301": "ó", "ｶﾞ": "ガ", "\u200b": ""} | {chr(0xFEE0 + c): chr(c) for c in range(0x21, 0x7F)}


def sentences(count=2000):
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=8)) for _ in range(count)]


def pack(name, about, **arrays):
    PLACE.mkdir(parents=True, exist_ok=True)
    text = json.dumps(about, separators=(",", ":"), ensure_ascii=False).encode()
    sizes = [len(text)]
    (PLACE / f"{name}.json.gz").write_bytes(gzip.compress(text, mtime=0))
    if arrays:
        np.savez_compressed(PLACE / f"{name}.npz", **{k: v.detach().float().numpy() for k, v in arrays.items()})
    sizes = [f.stat().st_size for f in sorted(PLACE.glob(f"{name}.*"))]
    print(f"{name}: {len(about['prompts'])} prompts, {sizes} bytes")


# Tokenizers.

def pieces(folder, full=False):
    """SigLIP's: SentencePiece, as transformers reads it; and its two conversions, ours to recommend and the hub's."""
    import sentencepiece
    from tokenizers import Regex, normalizers, processors
    from transformers import SiglipTokenizer
    from transformers.convert_slow_tokenizer import SpmConverter
    corpus, rules = folder / "corpus.txt", folder / "rules.tsv"
    corpus.write_text("\n".join(sentences()))
    code = lambda text: " ".join(f"{ord(c):X}" for c in text)
    rules.write_text("".join(f"{code(a)}\t{code(b)}\n" for a, b in RULES.items()))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spiece"), vocab_size=150, model_type="unigram", pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, hard_vocab_limit=False, minloglevel=2, **({} if full else dict(normalization_rule_tsv=str(rules))))
    slow = SiglipTokenizer(str(folder / "spiece.model"))
    plain = SpmConverter(slow).converted()
    converted = json.loads(plain.to_str())
    steps = [normalizers.Lowercase(), normalizers.Replace(Regex(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"), ""),
             normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    before = [json.loads(s.__getstate__()) for s in steps]
    plain.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    around = json.loads(plain.to_str())["post_processor"]
    return slow, converted, dict(before=before, post_processor=around)


def gemma():
    """SigLIP 2's: pairs of Gemma's tokenizer, lower case."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import Siglip2Tokenizer
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"] + [f"<0x{i:02X}>" for i in range(256)]
    trained.train_from_iterator([s.lower() for s in sentences()], trainers.BpeTrainer(vocab_size=420, special_tokens=special))
    model = json.loads(trained.to_str())["model"]
    made = Siglip2Tokenizer(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]])
    backend = made.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", model["vocab"]["<eos>"])])
    return made, json.loads(backend.to_str())


def clip(folder):
    """CLIP's: OpenAI's own code, and transformers' with the same pairs."""
    from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trained.train_from_iterator([s.lower() for s in sentences()],
                                trainers.BpeTrainer(vocab_size=160, end_of_word_suffix="</w>", show_progress=False))
    merges = [" ".join(m) for m in json.loads(trained.to_str())["model"]["merges"]]
    file = folder / "merges.txt.gz"
    file.write_bytes(gzip.compress("\n".join(["#version", *merges]).encode()))
    own = SimpleTokenizer(str(file), context_length=16)
    words = {w.replace("<start_of_text>", "<|startoftext|>").replace("<end_of_text>", "<|endoftext|>"): i for w, i in own.encoder.items()}
    made = CLIPTokenizer(vocab=words, merges=[tuple(m.split()) for m in merges])
    return own, made, json.loads(made.backend_tokenizer.to_str())


# Models.

def filled(model):
    """The model with weights by name, in float64; the shapes of its file."""
    shapes = {n: list(t.shape) for n, t in model.state_dict().items() if t.is_floating_point()}
    missing, extra = model.load_state_dict({n: tensor(n, s) for n, s in shapes.items()}, strict=False)
    assert not extra and all("position_ids" in m for m in missing), (missing, extra)
    return model.eval().double(), shapes


def siglip(name, numbers, tokenizer, prompts, **about):
    from transformers import SiglipConfig, SiglipModel
    layers = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    config = SiglipConfig(
        text_config=dict(vocab_size=max(map(max, numbers)) + 1, max_position_embeddings=len(numbers[0]), **layers),
        vision_config=dict(image_size=16, patch_size=8, **layers))
    model, shapes = filled(SiglipModel(config))
    with torch.no_grad():
        mean = std = torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64)
        pixels = (image(f"input/text/{name}", (2, 3, 16, 16)).double() - mean) / std
        out = model(input_ids=torch.tensor(numbers), pixel_values=pixels)
    settings = json.loads(config.to_json_string(use_diff=False))
    pack(name, dict(prompts=prompts, numbers=numbers, tokenizer=tokenizer, config=settings, shapes=shapes, **about),
         embeddings=out.text_embeds, logits=out.logits_per_image)


def open_clip(name, numbers, tokenizer, prompts, custom=False, quick=False, **text):
    import open_clip as home
    words = 1 + max(map(max, numbers)) if "eos_id" not in text else len(tokenizer["model"]["vocab"])
    vision = dict(image_size=32, layers=2, width=64, patch_size=16, head_width=32)
    text = dict(context_length=16, vocab_size=words, width=128, heads=2, layers=2, **text)
    settings = dict(embed_dim=24, quick_gelu=quick, vision_cfg=vision, text_cfg=text)
    if custom:
        settings |= dict(custom_text=True, init_logit_bias=-10)
    kind = home.model.CustomTextCLIP if custom else home.model.CLIP
    model, shapes = filled(kind(**{k: v for k, v in settings.items() if k != "custom_text"}))
    preprocess = dict(size=32, mode="RGB", mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711],
                      interpolation="bicubic", resize_mode="shortest", fill_color=0)
    with torch.no_grad():
        mean, std = (torch.tensor(preprocess[k], dtype=torch.float64).view(1, 3, 1, 1) for k in ("mean", "std"))
        pixels = (image(f"input/text/{name}", (2, 3, 32, 32)).double() - mean) / std
        rows = [(n + [0] * 16)[:16] for n in numbers]
        logits, _ = model.get_logits(pixels, torch.tensor(rows))
        embeddings = model.encode_text(torch.tensor(rows), normalize=True)
    pack(name, dict(prompts=prompts, numbers=numbers, tokenizer=tokenizer, config=dict(model_cfg=settings, preprocess_cfg=preprocess),
                    shapes=shapes), embeddings=embeddings, logits=logits)


# Image towers of timm's: small networks of its classes, registered under names that say which class they are of.

def small_vit(pretrained=False, **settings):
    from timm.models.vision_transformer import VisionTransformer
    del pretrained
    settings = {k: v for k, v in settings.items() if not k.startswith("pretrained_") and k != "cache_dir"}
    model = VisionTransformer(**dict(patch_size=8, embed_dim=128, depth=2, num_heads=2, mlp_ratio=1.5) | settings)
    # The adapter asks for it.
    model.default_cfg = dict()
    return model


def siglip_tower(**settings):
    # Pixels that fill no patch are left out.
    return small_vit(**dict(img_size=36, class_token=False, global_pool="map") | settings)


def clip_tower(**settings):
    from functools import partial
    from timm.layers import LayerNorm
    return small_vit(**dict(img_size=32, pre_norm=True, norm_layer=partial(LayerNorm, eps=1e-5)) | settings)


def eva_tower(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **settings):
    from timm.models.eva import Eva
    return Eva(**dict(img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=2, mlp_ratio=1.5) | settings)


def convnext_tower(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **settings):
    from timm.models.convnext import ConvNeXt
    model = ConvNeXt(**dict(depths=(1, 1, 2, 1), dims=(16, 24, 32, 40)) | settings)
    model.default_cfg = dict(pool_size=(1, 1))
    return model


def registered(name, make):
    from timm.models import register_model
    entry = lambda pretrained=False, **settings: make(pretrained=pretrained, **settings)
    entry.__name__, entry.__module__ = name, __name__
    register_model(entry)
    return name


def whole(folder, tokenizer, pad, context):
    """OpenCLIP's own way to a tokenizer of the hub."""
    from open_clip.tokenizer import HFTokenizer
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast
    at = folder / "hub"
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(tokenizer)), pad_token=pad)
    fast.save_pretrained(at)
    return HFTokenizer(str(at), context_length=context, clean="canonicalize")


def timm(name, numbers, tokenizer, prompts, settings, half):
    import open_clip as home
    kind = home.model.CustomTextCLIP if settings.get("custom_text") else home.model.CLIP
    model, shapes = filled(kind(**{k: v for k, v in settings.items() if k != "custom_text"}))
    mean, std = ([0.5] * 3, [0.5] * 3) if half else ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    preprocess = dict(mean=mean, std=std, interpolation="bicubic", resize_mode="squash" if half else "shortest")
    rows, side = 2 if half else 1, settings["vision_cfg"]["image_size"]
    pixels = image(f"input/text/{name}", (rows, 3, side, side)).double().requires_grad_()
    centre, spread = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (mean, std))
    loss = lambda embedding: torch.nn.functional.cross_entropy(embedding, torch.arange(rows), reduction="sum")
    embedding = model.encode_image((pixels - centre) / spread)
    loss(embedding).backward()
    check_slope(lambda x: loss(model.encode_image((x - centre) / spread)).item(), pixels)
    with torch.no_grad():
        logits, _ = model.get_logits((pixels - centre) / spread, torch.tensor(numbers))
        embeddings = model.encode_text(torch.tensor(numbers), normalize=True)
    pack(name, dict(prompts=prompts, numbers=numbers, tokenizer=tokenizer, config=dict(model_cfg=settings, preprocess_cfg=preprocess),
                    shapes=shapes), embeddings=embeddings, logits=logits, image=embedding, grad=pixels.grad)


def write_timm_siglip(name, folder):
    second = name.endswith("2")
    if second:
        tokenizer, pad, words = gemma()[1], "<pad>", 420
    else:
        kept = json.loads(gzip.decompress((PLACE / "siglip.json.gz").read_bytes()))
        tokenizer, pad = kept["tokenizer"] | dict(post_processor=kept["hub"]["post_processor"]), "</s>"
        words = len(tokenizer["model"]["vocab"])
    prompts = ["a photo of a cat", "A Photo, of the DOG's tail_end!", "red ship", "Zürich in the dark ΟΔΟΣ-Α"]
    longest = 64
    ids = whole(folder, tokenizer, pad, longest)(prompts).tolist()
    longest = 1 + max(next(i for i in range(longest, 0, -1) if row[i - 1] != row[-1]) for row in ids)
    numbers = whole(folder, tokenizer, pad, longest)(prompts).tolist()
    text = dict(context_length=longest, vocab_size=words, hf_tokenizer_name="made/up", tokenizer_kwargs=dict(clean="canonicalize"),
                width=64, heads=2, layers=2, no_causal_mask=True, proj_bias=True, pool_type="last", norm_kwargs=dict(eps=1e-6))
    if second:
        text["act_kwargs"] = dict(approximate="tanh")
    tower = registered("vit_micro_patch8_siglip_36", siglip_tower)
    end = dict(timm_pool="", timm_proj="linear", timm_proj_bias=True) if second else dict(timm_pool="map", timm_proj="none")
    settings = dict(embed_dim=24 if second else 128, init_logit_bias=-10, custom_text=True, text_cfg=text,
                    vision_cfg=dict(image_size=36, timm_model_name=tower, timm_model_pretrained=False, **end))
    timm(name, numbers, tokenizer, prompts, settings, half=True)


def write_timm_clip(name, folder):
    own, made, tokenizer = clip(folder)
    prompts = ["a photo of a cat", "red ship"]
    numbers = [([own.sot_token_id, *own.encode(p), own.eot_token_id] + [0] * 8)[:8] for p in prompts]
    tower, make, end = {
        "openclip-timm-vit": ("vit_micro_patch8_clip_32", clip_tower, dict(timm_pool="token", timm_proj=None)),
        "openclip-timm-eva": ("eva_giant_patch14_224", eva_tower, dict(timm_pool="token", timm_proj=None)),
        "openclip-timm-convnext": ("convnext_micro", convnext_tower, dict(timm_pool="", timm_proj="linear", timm_drop_path=0.1)),
        "openclip-timm-convnext-mlp": ("convnext_micro", convnext_tower, dict(timm_pool="", timm_proj="mlp")),
    }[name]
    vision = dict(image_size=32, timm_model_name=registered(tower, make), timm_model_pretrained=False, timm_drop=0.0, **end)
    text = dict(context_length=8, vocab_size=1 + max(map(max, numbers)), width=64, heads=1, layers=1)
    timm(name, numbers, tokenizer, prompts, dict(embed_dim=24, vision_cfg=vision, text_cfg=text), half=False)


def write_siglip(name, folder):
    slow, converted, hub = pieces(folder)
    prompts = [*(p.strip() for p in AWKWARD), "a photo of the tree and the bird and the horse and a large truck"]
    # The longest one fills the tower.
    length = max(len(slow(p)["input_ids"]) for p in prompts)
    numbers = slow(prompts, padding="max_length", max_length=length)["input_ids"]
    siglip(name, numbers, converted, prompts, hub=hub)


def write_siglip2(name, folder):
    made, tokenizer = gemma()
    prompts = [p.strip() for p in AWKWARD]
    numbers = made(prompts, padding="max_length", max_length=64, padding_side="right")["input_ids"]
    assert {len(n) for n in numbers} == {64}
    pack(name, dict(prompts=prompts, numbers=numbers, tokenizer=tokenizer))


def write_clip(name, folder):
    own, made, tokenizer = clip(folder)
    numbers = made([p.strip() for p in AWKWARD])["input_ids"]
    # What ftfy repairs, and letters whose lower case depends on the order of cleaning, differ between the two.
    differ = [p for p, n in zip(AWKWARD, numbers) if [own.sot_token_id, *own.encode(p), own.eot_token_id] != n]
    print(f"{name}: OpenAI's code numbers otherwise: {differ}")
    pack(name, dict(prompts=[p.strip() for p in AWKWARD], numbers=numbers, tokenizer=tokenizer, differ=differ))


def write_open_clip(name, folder):
    own, made, tokenizer = clip(folder)
    prompts = ["a photo of a cat", "a sketch of a Dog", "red ship", "the old house near a tree"]
    start, end = own.sot_token_id, own.eot_token_id
    if name == "openclip-eos":
        # An end that is not the largest number.
        start, end = end, start
        around = tokenizer["post_processor"]
        around["sep"], around["cls"] = around["cls"], around["sep"]
    numbers = [[start, *own.encode(p), end] for p in prompts]
    settings = {
        "openclip": {},
        "openclip-quick-bias": dict(custom=True, quick=True),
        "openclip-eos": dict(pool_type="eos", eos_id=end, proj_bias=True, hf_tokenizer_name="made/up"),
    }[name]
    open_clip(name, numbers, tokenizer, prompts, **settings)


ENTRIES = {"siglip": write_siglip, "siglip2": write_siglip2, "clip": write_clip, "openclip": write_open_clip,
           "openclip-quick-bias": write_open_clip, "openclip-eos": write_open_clip, "openclip-siglip": write_timm_siglip,
           "openclip-siglip2": write_timm_siglip, "openclip-timm-vit": write_timm_clip, "openclip-timm-eva": write_timm_clip,
           "openclip-timm-convnext": write_timm_clip, "openclip-timm-convnext-mlp": write_timm_clip}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or ENTRIES:
        with tempfile.TemporaryDirectory() as folder:
            ENTRIES[chosen](chosen, pathlib.Path(folder))
