//! Image towers of timm in folders of OpenCLIP: what the name of the network and the settings beside it say, and whether the
//! weights are of it.

use super::settings::CONFIG;
use crate::families::clip::timm::{LINEAR, MLP, NAME, TRUNK};
use crate::options::Options;
use crate::settings::Config;
use crate::weights::StateDict;
use robust_core::{Error, Result};

/// Settings that are used, or that are of the training alone.
const KNOWN: [&str; 8] = [
    "image_size",
    "timm_model_name",
    "timm_model_pretrained",
    "timm_pool",
    "timm_proj",
    "timm_proj_bias",
    "timm_drop",
    "timm_drop_path",
];
/// timm's ConvNeXts that OpenCLIP has: width of the first stage and depths.
const CONVNEXTS: [(&str, usize, [usize; 4]); 6] = [
    ("tiny", 96, [3, 3, 9, 3]),
    ("small", 96, [3, 3, 27, 3]),
    ("base", 128, [3, 3, 27, 3]),
    ("large", 192, [3, 3, 27, 3]),
    ("xlarge", 256, [3, 3, 27, 3]),
    ("xxlarge", 384, [3, 4, 30, 3]),
];
/// timm's SigLIPs: width, heads and depth.
const SIGLIPS: [(&str, [usize; 3]); 4] =
    [("base", [768, 12, 12]), ("large", [1024, 16, 24]), ("so400m", [1152, 16, 27]), ("giantopt", [1536, 16, 40])];

const EVAS: [&str; 2] = ["eva_giant_patch14_224", "eva_giant_patch14_clip_224"];

/// How the trunk's places become one embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pool {
    Attention,
    Mean,
    Class,
}

/// What the embedding goes through last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// The trunk's own layer.
    Own,
    Linear,
    Mlp,
    Nothing,
}

/// A network by its name.
#[derive(Debug)]
struct Network {
    /// Width and depth of each stage, where the name tells.
    sizes: Option<(usize, Vec<usize>)>,
    heads: Option<usize>,
    activation: Option<&'static str>,
    /// The pool that the network is made with when none is asked for.
    usual: Pool,
    /// Those that it may be made with.
    pools: &'static [Pool],
    /// How its blocks and its last layer are called.
    block: fn(usize, usize) -> String,
    own: &'static str,
}

#[derive(Debug)]
pub(super) struct TimmTower {
    name: String,
    network: Network,
    pool: Pool,
    last: Last,
}

impl TimmTower {
    /// The tower that `vision_cfg` describes, or `None` where it is not a network of timm's.
    ///
    /// # Errors
    /// Kind `Load` for networks and settings that are not known here.
    pub fn of(c: &Config) -> Result<Option<Self>> {
        let Some(name) = c.text("timm_model_name") else { return Ok(None) };
        let name: String = name.chars().take(60).collect();
        // What follows a dot is whose weights they were before the training.
        let Some(network) = Network::named(name.split('.').next().unwrap_or_default()) else {
            return Err(Error::load(
                CONFIG,
                format!("the image tower is timm's `{name}`, which is not supported here"),
            )
            .hint("of timm's networks SigLIP's, CLIP's ViTs, EVA's giant and ConvNeXt are; export others to ONNX"));
        };
        c.only(&KNOWN, "such image towers are not supported here: export it to ONNX")?;
        let wrong = |key: &str, said: &str| {
            Error::load(format!("`{key}` in {CONFIG}"), format!("`{said}` is not supported here with `{name}`"))
                .hint("export the image tower to ONNX")
        };
        // OpenCLIP's own when nothing is said; nothing may also be said outright.
        let said = |key, usual| c.text_or(key, if c.mentions(key) { "" } else { usual });
        let (last, named) = (said("timm_proj", "linear")?, said("timm_pool", "avg")?);
        let last = match last {
            "linear" => Last::Linear,
            "mlp" => Last::Mlp,
            "none" => Last::Nothing,
            "" => Last::Own,
            other => return Err(wrong("timm_proj", other)),
        };
        let pool = match named {
            "map" => Pool::Attention,
            "avg" => Pool::Mean,
            "token" => Pool::Class,
            // A network whose last layer is OpenCLIP's keeps its pool; another one is left without.
            "" if [Last::Linear, Last::Mlp].contains(&last) => network.usual,
            other => return Err(wrong("timm_pool", other)),
        };
        if !network.pools.contains(&pool) {
            return Err(wrong("timm_pool", named));
        }
        Ok(Some(Self { name, network, pool, last }))
    }

    /// Tells the reader of the tensors what they do not say.
    pub fn tell(&self, options: &mut Options) {
        options.arch = Some(NAME.into());
        options.activation = self.network.activation.map(Into::into);
        options.heads = self.network.heads.map(|n| n.to_string());
    }

    /// Whether the weights are of this network: its reader counts blocks, and takes what it finds for pool and last layer.
    ///
    /// # Errors
    /// Kind `Load` where they are not.
    pub fn fits(&self, dict: &StateDict) -> Result<()> {
        let has = |part: &str| dict.any(&format!("{part}."));
        let own = format!("{TRUNK}{}", self.network.own);
        let found = match () {
            () if has(LINEAR) => Last::Linear,
            () if has(MLP) => Last::Mlp,
            () if has(&own) => Last::Own,
            () => Last::Nothing,
        };
        let layer = |last: Last| match last {
            Last::Own => format!("a last layer `{own}`"),
            Last::Linear => format!("a last layer `{LINEAR}`"),
            Last::Mlp => format!("last layers `{MLP}`"),
            Last::Nothing => "no last layer".to_string(),
        };
        if found != self.last {
            let why = format!("they have {}, {CONFIG} says {}", layer(found), layer(self.last));
            return Err(Error::load("the image tower's weights", why));
        }
        let pooled = has(&format!("{TRUNK}attn_pool"));
        if pooled != (self.pool == Pool::Attention) {
            let [found, said] = [pooled, !pooled].map(|p| if p { "an attention pool" } else { "no attention pool" });
            let why = format!("they have {found} (`{TRUNK}attn_pool`), {CONFIG} says {said}");
            return Err(Error::load("the image tower's weights", why));
        }
        self.whole(dict)
    }

    fn whole(&self, dict: &StateDict) -> Result<()> {
        let Some((width, depths)) = &self.network.sizes else { return Ok(()) };
        let first = ["patch_embed.proj.weight", "stem.0.weight"].map(|n| format!("{TRUNK}{n}"));
        let found = first.iter().find_map(|n| dict.dims(n)?.first());
        let blocks = |i: usize| dict.count(|j| format!("{TRUNK}{}", (self.network.block)(i, j)));
        let counted: Vec<usize> = (0..depths.len()).map(blocks).collect();
        if found == Some(width) && counted == *depths {
            return Ok(());
        }
        let found = found.map_or("no".to_string(), usize::to_string);
        Err(Error::load(
            "the image tower's weights",
            format!("they have {found} channels and {counted:?} blocks, `{}` has {width} and {depths:?}", self.name),
        ))
    }
}

fn flat(_: usize, block: usize) -> String {
    format!("blocks.{block}")
}

fn staged(stage: usize, block: usize) -> String {
    format!("stages.{stage}.blocks.{block}")
}

impl Network {
    fn named(name: &str) -> Option<Self> {
        Self::siglip(name).or_else(|| Self::clip(name)).or_else(|| Self::convnext(name))
    }

    /// `vit_SIZE_patchN_siglip_SIDE`, or `siglip_gap` for those without a pool of attention.
    fn siglip(name: &str) -> Option<Self> {
        let (size, patch, side) = parts(name, "_siglip_")?;
        let (mean, side) = side.strip_prefix("gap_").map_or((false, side), |side| (true, side));
        let side: usize = side.parse().ok()?;
        let tanh = matches!((size, patch, side), ("giantopt", ..) | (_, 32, _) | ("large", _, 512) | ("so400m", 16, _));
        let sizes = SIGLIPS.iter().find(|(n, _)| *n == size).map(|(_, sizes)| *sizes);
        // Of sizes that timm does not have nothing is known.
        let activation = sizes.map(|_| if tanh { "gelu_pytorch_tanh" } else { "gelu" });
        Some(Self {
            sizes: sizes.map(|[width, _, depth]| (width, vec![depth])),
            heads: sizes.map(|[_, heads, _]| heads),
            activation,
            usual: if mean { Pool::Mean } else { Pool::Attention },
            pools: if mean { &[Pool::Mean] } else { &[Pool::Attention, Pool::Mean] },
            block: flat,
            own: "head",
        })
    }

    /// `vit_SIZE_patchN_clip_SIDE`, or `clip_quickgelu`; and EVA's giant, the only one of its home whose blocks are plain.
    fn clip(name: &str) -> Option<Self> {
        let quick = match parts(name, "_clip_") {
            _ if EVAS.contains(&name) => false,
            Some((_, _, side)) => {
                let (quick, side) = side.strip_prefix("quickgelu_").map_or((false, side), |side| (true, side));
                side.parse::<usize>().ok()?;
                quick
            }
            None => return None,
        };
        let activation = Some(if quick { "quick_gelu" } else { "gelu" });
        let (usual, pools) = (Pool::Class, &[Pool::Class]);
        Some(Self { sizes: None, heads: None, activation, usual, pools, block: flat, own: "head" })
    }

    /// `convnext_SIZE`.
    fn convnext(name: &str) -> Option<Self> {
        let size = name.strip_prefix("convnext_").filter(|s| s.chars().all(|c| c.is_ascii_lowercase()))?;
        let sizes = CONVNEXTS.iter().find(|(n, ..)| *n == size).map(|(_, width, depths)| (*width, depths.to_vec()));
        let (usual, pools) = (Pool::Mean, &[Pool::Mean]);
        Some(Self { sizes, heads: None, activation: None, usual, pools, block: staged, own: "head.fc" })
    }
}

/// Size, patch and what follows the family in timm's names.
fn parts<'a>(name: &'a str, family: &str) -> Option<(&'a str, usize, &'a str)> {
    let (size, rest) = name.strip_prefix("vit_")?.split_once("_patch")?;
    let (patch, rest) = rest.split_once(family)?;
    Some((size, patch.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_heads_and_activation_as_timm_has_them() {
        const TANH: &str = "gelu_pytorch_tanh";
        // By timm 1.0.31: width, heads, depth, activation.
        for (name, width, heads, depth, activation) in [
            ("vit_base_patch32_siglip_256", 768, 12, 12, TANH),
            ("vit_base_patch16_siglip_224", 768, 12, 12, "gelu"),
            ("vit_base_patch16_siglip_512", 768, 12, 12, "gelu"),
            ("vit_large_patch16_siglip_256", 1024, 16, 24, "gelu"),
            ("vit_large_patch16_siglip_384", 1024, 16, 24, "gelu"),
            ("vit_large_patch16_siglip_512", 1024, 16, 24, TANH),
            ("vit_so400m_patch14_siglip_224", 1152, 16, 27, "gelu"),
            ("vit_so400m_patch14_siglip_378", 1152, 16, 27, "gelu"),
            ("vit_so400m_patch14_siglip_384", 1152, 16, 27, "gelu"),
            ("vit_so400m_patch16_siglip_256", 1152, 16, 27, TANH),
            ("vit_so400m_patch16_siglip_512", 1152, 16, 27, TANH),
            ("vit_giantopt_patch16_siglip_256", 1536, 16, 40, TANH),
            ("vit_giantopt_patch16_siglip_gap_384", 1536, 16, 40, TANH),
            ("vit_so400m_patch14_siglip_gap_448", 1152, 16, 27, "gelu"),
        ] {
            let network = Network::named(name).unwrap();
            assert_eq!(network.sizes, Some((width, vec![depth])), "{name}");
            assert_eq!((network.heads, network.activation), (Some(heads), Some(activation)), "{name}");
            assert_eq!(network.usual == Pool::Mean, name.contains("gap"), "{name}");
        }
        assert_eq!(Network::named("vit_tiny_patch8_siglip_32").unwrap().activation, None);
        assert_eq!(Network::named("vit_base_patch32_clip_quickgelu_224").unwrap().activation, Some("quick_gelu"));
        for other in [
            "eva02_base_patch16_clip_224",
            "vit_base_mci_224",
            "vit_pe_core_base_patch16_224",
            "convnext_atto_ols",
            "convnextv2_base",
            "vit_base_patch16_siglip_",
            "vit_base_patch_siglip_224",
            "",
        ] {
            assert!(Network::named(other).is_none(), "{other}");
        }
    }
}
