//! Corruptions through the command: tables, resuming, verification, copies on disk, and what is refused.

use crate::support::Place;
use serde_json::Value;

const EVAL: &str = "eval --model builtin:mnist-std --corruptions mnist-c --limit 130";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn mnist_c_prints_a_table_and_every_point_is_made_again_by_verify() {
    let place = Place::new();
    let said = place.ok(&format!("{EVAL} --out run"));
    for word in ["mnist-std on mnist-c, 130 samples", "canny_edges", "zigzag", "mean corruption accuracy", "worst case"]
    {
        assert!(said.out.contains(word), "{word} is not in\n{}", said.out);
    }
    let all = lines(&place.read("run/outcomes.jsonl"));
    assert_eq!(all.len(), 15 * 130);
    // Samples that were wrong already are judged too, at a cost of one forward; nothing is asked during the search.
    assert!(
        all.iter().all(|l| l["best"].is_object() && l["cost"]["search"]["forward"] == 0 && l["cost"]["confirm"] == 1)
    );
    let verified = place.ok("verify run");
    assert!(verified.err.contains("every row holds: 1950 rows, 1950 points"), "{}", verified.err);
    // One edited digest is found out.
    let text = place.read("run/outcomes.jsonl");
    let digest = all[7]["evidence"].as_str().unwrap();
    std::fs::write(place.path("run/outcomes.jsonl"), text.replacen(digest, &"0".repeat(64), 1)).unwrap();
    place.fails("verify run", 1, &["do not hold"]);
}

#[test]
fn shards_merge_to_the_bytes_of_one_run_and_batches_change_nothing() {
    let place = Place::new();
    let eval = "eval --model builtin:mnist-std --corruptions mnist-c:only=fog+zigzag --first 130";
    place.ok(&format!("{eval} --out whole"));
    place.ok(&format!("{eval} --out single --batch-size 3 --threads 1"));
    place.ok(&format!("{eval} --out a --shard 1/2"));
    place.ok(&format!("{eval} --out b --shard 2/2"));
    place.ok("merge a b --out merged");
    for other in ["single", "merged"] {
        assert_eq!(place.read("whole/outcomes.jsonl"), place.read(&format!("{other}/outcomes.jsonl")), "{other}");
    }
    place.ok(&format!("{eval} --out other --seed 1"));
    assert_ne!(place.read("whole/outcomes.jsonl"), place.read("other/outcomes.jsonl"));
}

#[test]
fn a_reference_run_gives_relative_error_and_alexnet_is_refused_for_generated_images() {
    let place = Place::new();
    let eval = |model: &str, more: &str| {
        format!("eval --model builtin:{model} --corruptions mnist-c:only=fog+zigzag+canny_edges --limit 100 {more}")
    };
    place.ok(&eval("mnist-std", "--out std"));
    let same = place.ok(&eval("mnist-std", "--out again --reference std"));
    assert!(same.out.contains("mCE 100.0, relative mCE 100.0"), "{}", same.out);
    place.fails(&eval("mnist-std", "--out c --reference alexnet"), 2, &["not comparable", "suites"]);
    place.fails(&eval("mnist-std", "--out d --seed 5 --reference std"), 2, &["not comparable", "seed"]);
    place.fails(&eval("mnist-std", "--out e --reference nowhere"), 4, &["corruptions.json"]);
}

#[test]
fn corrupted_copies_are_data_sets_and_published_sets_at_once() {
    let place = Place::new();
    let copy = "corrupt mnist-c:only=fog+stripe --dataset builtin:mnist --size 1x28x28 --limit 60";
    place.ok(&format!("{copy} --out made --png --npy --safetensors --contact-sheet sheet.png"));
    assert!(place.path("sheet.png").is_file());
    assert!(place.ok("inspect safetensors:made/mnist-c/fog-1.safetensors").out.contains("60 samples"));
    assert!(place.ok("inspect folder:made/mnist-c/fog/1").out.contains("60 samples"));
    assert!(place.ok("inspect npy:made/mnist-c/fog.npy,made/mnist-c/labels.npy").out.contains("60 samples"));
    place.fails(&format!("{copy} --out made"), 2, &["is not empty", "the very same command"]);
    // Cut off and begun again: what was torn or lost is made again, to the same bytes.
    let again = format!("{copy} --out made --png --npy --safetensors");
    let first = |dir: &std::path::Path| std::fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    let image = first(&first(&place.path("made/mnist-c/stripe/1")));
    let files = [image, place.path("made/mnist-c/fog.npy"), place.path("made/mnist-c/fog-1.safetensors")];
    let whole = files.each_ref().map(|f| std::fs::read(f).unwrap());
    std::fs::write(&files[0], &whole[0][..9]).unwrap();
    files[1..].iter().for_each(|f| std::fs::remove_file(f).unwrap());
    let draft = place.path("made/mnist-c/stripe/1/.robust-1-1.part");
    std::fs::write(&draft, "").unwrap();
    place.ok(&again);
    assert!(files.each_ref().map(|f| std::fs::read(f).unwrap()) == whole && !draft.exists());
    // What `eval` makes is what `corrupt` wrote: the same verdicts from both.
    let ids: Vec<String> = {
        place.ok("eval --model builtin:mnist-std --corruptions mnist-c:only=fog --limit 60 --out live");
        lines(&place.read("live/outcomes.jsonl")).iter().map(|l| l["best"]["label"].to_string()).collect()
    };
    // The layout of MNIST-C, over the same 60 clean images.
    place.ok("corrupt mnist-c:only=stripe --dataset builtin:mnist --size 1x28x28 --limit 60 --out clean --safetensors");
    std::fs::create_dir_all(place.path("mnist_c/fog")).unwrap();
    for (from, to) in [("fog.npy", "test_images.npy"), ("labels.npy", "test_labels.npy")] {
        std::fs::copy(place.path("made/mnist-c").join(from), place.path("mnist_c/fog").join(to)).unwrap();
    }
    let read = "eval --model builtin:mnist-std --dataset safetensors:clean/mnist-c/stripe-1.safetensors";
    place.ok(&format!("{read} --corruptions mnist-c:dir=mnist_c --out published"));
    let published: Vec<String> =
        lines(&place.read("published/outcomes.jsonl")).iter().map(|l| l["best"]["label"].to_string()).collect();
    assert_eq!(ids, published);
    place.ok("verify published");
    // Another number of images is another set.
    place.fails("eval --model builtin:mnist-std --corruptions mnist-c:dir=mnist_c --out x", 4, &["60 images", "1000"]);
}

#[test]
fn what_cannot_be_corrupted_is_refused_by_name() {
    let place = Place::new();
    let eval = "eval --model builtin:mnist-std --corruptions";
    place.fails(&format!("{eval} imagenet-c"), 4, &["1 channels, 3 (RGB)", "mnist-c"]);
    place.fails(&format!("{eval} mnist-c:severities=0"), 2, &["severities=0", "1 to 1"]);
    place.fails(&format!("{eval} mnist-c:severities=6"), 2, &["severities=6"]);
    place.fails(&format!("{eval} mnist-c:only=fogg"), 2, &["did you mean `fog`"]);
    place.fails(&format!("{eval} mnistc"), 2, &["did you mean `mnist-c`"]);
    place.fails(&format!("{eval} mnist-c --frost-dir nowhere"), 4, &["no such folder of frost photos"]);
    std::fs::create_dir(place.path("frost")).unwrap();
    place.fails(&format!("{eval} mnist-c --frost-dir frost"), 4, &["frost1.png"]);
    std::fs::write(place.path("frost/frost1.png"), "not the photo").unwrap();
    place.fails(&format!("{eval} mnist-c --frost-dir frost"), 4, &["sha256", "ff9f9078"]);
    place.fails(&format!("{eval} mnist-c:dir=nowhere"), 4, &["no such folder"]);
    let corrupt = "corrupt imagenet-c --dataset builtin:mnist --out x --size";
    place.fails(&format!("{corrupt} 3x20x20"), 4, &["too small", "glass_blur", "32x32"]);
    place.fails(&format!("{corrupt} 4x224x224"), 4, &["4 channels"]);
    place.fails(&format!("{corrupt} 224"), 2, &["3x224x224"]);
}

#[test]
fn a_published_tree_with_other_classes_or_a_wrong_array_is_refused() {
    let place = Place::new();
    let copy = "corrupt mnist-c:only=fog+stripe --dataset builtin:mnist --size 1x28x28 --limit 40";
    place.ok(&format!("{copy} --out made --png"));
    place.ok(&format!("{copy} --out arrays --npy"));
    let eval = "eval --model builtin:mnist-std --dataset folder:made/mnist-c/stripe/1 --corruptions mnist-c";
    let said = place.ok(&format!("{eval}:dir=made/mnist-c --out ok --evidence all"));
    assert!(said.out.contains("fog") && !said.out.contains("Generated"), "{}", said.out);
    place.ok("verify ok");
    let class = std::fs::read_dir(place.path("made/mnist-c/fog/1")).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(&class, class.with_file_name("nobody")).unwrap();
    place.fails(&format!("{eval}:dir=made/mnist-c --out other"), 4, &["missing [nobody]"]);
    let eval = "eval --model builtin:mnist-std --corruptions mnist-c";
    // Sixteen-bit integers are no 8-bit images.
    let mut bytes = std::fs::read(place.path("arrays/mnist-c/fog.npy")).unwrap();
    let at = bytes.windows(3).position(|w| w == b"|u1").unwrap();
    bytes[at..at + 3].copy_from_slice(b"<i2");
    bytes.extend(bytes[128..].to_vec());
    std::fs::create_dir_all(place.path("wide/fog")).unwrap();
    std::fs::write(place.path("wide/fog/test_images.npy"), bytes).unwrap();
    std::fs::copy(place.path("arrays/mnist-c/labels.npy"), place.path("wide/fog/test_labels.npy")).unwrap();
    place.fails(&format!("{eval}:dir=wide --out z"), 4, &["are not pixels"]);
}
