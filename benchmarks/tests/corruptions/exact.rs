//! Bit for bit: deterministic corruptions from the image alone, random ones from numpy's seed.

use super::files::{Npz, gap, index, listed, picture, root, window, windows};
use robust_benchmarks::corruptions::{self, Call, Corruption, Photos, Profile, Random, sha256};
use robust_imaging::Bytes;
use std::path::Path;

pub fn by_name(name: &str) -> &'static Corruption {
    corruptions::TEST.into_iter().chain(corruptions::EXTRA).find(|c| c.name == name).unwrap_or_else(|| panic!("{name}"))
}

/// The published frost photos, where `ROBUST_FROST` names a folder that holds them.
pub fn frost() -> Option<Photos> {
    let folder = std::env::var_os("ROBUST_FROST")?;
    Some(Photos::open(Path::new(&folder)).unwrap())
}

pub fn profile(key: &str) -> (Profile, &str) {
    let (profile, rest) = key.split_once("__").unwrap();
    match profile {
        "hendrycks" => (Profile::Hendrycks, rest),
        "imagecorruptions" => (Profile::ImageCorruptions, rest),
        other => panic!("{other}"),
    }
}

pub fn apply(
    x: &Bytes,
    name: &str,
    profile: Profile,
    level: usize,
    mut random: Random,
    frost: Option<&Photos>,
) -> Bytes {
    let side = if profile == Profile::Hendrycks { x.height } else { 224 };
    let table = corruptions::of_side(side).unwrap();
    (by_name(name).apply)(x, &mut Call { table, profile, level, random: &mut random, frost }).unwrap()
}

/// Samples that may differ by one level.
fn allowed(what: &str, samples: usize) -> usize {
    let has = |part| what.contains(part);
    match () {
        // The sum of a lens' disc is a Fourier transform in the reference.
        _ if has("defocus_blur") => samples / 10_000,
        // Exact but for one sample of a whole image of 224.
        _ if has("spatter") => samples / 100_000,
        // Weights are exponentials whose last bit depends on the vectors of numpy's machine: the reference, run on another
        // one, differs from its own fixtures by as many.
        _ if has("gaussian_blur") || has("imagecorruptions__motion_blur") => samples / 3_000,
        // OpenCV enlarges the photo with code of its processor's maker.
        _ if has("imagecorruptions__frost") => samples / 20,
        _ => 0,
    }
}

fn compare(what: &str, got: &[u8], want: &[u8], wrong: &mut Vec<String>) {
    let (worst, count) = gap(got, want);
    if count > allowed(what, want.len()) || worst > 1 {
        wrong.push(format!("{what}: {count} of {} differ, by at most {worst}", want.len()));
    }
}

#[test]
fn deterministic_corruptions_are_the_published_ones_bit_for_bit() {
    let Some(root) = root() else { return };
    let mut wrong = vec![];
    let mut seen = 0;
    for file in ["det_cifar.npz", "det_tiny.npz"] {
        if !listed(&root, file) {
            continue;
        }
        let mut npz = Npz::open(&root, file);
        let input = npz.bytes("input");
        for key in npz.names.clone().iter().filter(|k| k.contains("__")) {
            let (profile, name) = profile(key);
            let want = npz.bytes(key);
            for level in 0..want.shape()[0] {
                let outputs = want.index_axis(ndarray::Axis(0), level).to_owned();
                for i in 0..input.shape()[0] {
                    let got = apply(&picture(&input, i), name, profile, level, Random::numpy(0), None);
                    let want = picture(&outputs, i).samples;
                    compare(&format!("{file} {key} s{} i{i}", level + 1), &got.samples, &want, &mut wrong);
                    seen += 1;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
    eprintln!("{seen} outputs equal");
}

#[test]
fn deterministic_corruptions_of_large_images_are_the_published_ones() {
    let Some(root) = root() else { return };
    if !listed(&root, "det_imagenet.npz") {
        return;
    }
    let (windows, index) = (windows(&root), index(&root));
    let mut npz = Npz::open(&root, "det_imagenet.npz");
    let input = npz.bytes("input");
    let mut wrong = vec![];
    let mut names: Vec<String> = npz.names.iter().filter_map(|k| Some(k.split_once("__win_")?.0.to_string())).collect();
    names.sort();
    names.dedup();
    for key in &names {
        let (profile, name) = profile(key);
        let parts: Vec<_> = windows.iter().map(|(w, place)| (place, npz.bytes(&format!("{key}__win_{w}")))).collect();
        for level in 0..5 {
            for i in 0..input.shape()[0] {
                let got = apply(&picture(&input, i), name, profile, level, Random::numpy(0), None);
                for ([y, x, h, w], want) in &parts {
                    let outputs = want.index_axis(ndarray::Axis(0), level).to_owned();
                    let what = format!("{key} s{} i{i} at {y},{x}", level + 1);
                    compare(&what, &window(&got, *y, *x, *h, *w), &picture(&outputs, i).samples, &mut wrong);
                }
                if (level, i) == (2, 0) && npz.names.contains(&format!("{key}__full_s3_i0")) {
                    let full: Vec<u8> = npz.bytes(&format!("{key}__full_s3_i0")).iter().copied().collect();
                    compare(&format!("{key} s3 i0 whole"), &got.samples, &full, &mut wrong);
                }
            }
        }
    }
    assert!(!names.is_empty() && wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(index["det_full_hashes"].is_object());
}

#[test]
fn random_corruptions_are_the_published_ones_under_numpys_seed() {
    let Some(root) = root() else { return };
    let frost = frost();
    let mut wrong = vec![];
    let mut seen = 0;
    for file in ["seeded_cifar.npz", "seeded_cifar_imagecorruptions.npz"] {
        if !listed(&root, file) || !listed(&root, "det_cifar.npz") {
            continue;
        }
        let input = Npz::open(&root, "det_cifar.npz").bytes("input");
        let mut npz = Npz::open(&root, file);
        for key in npz.names.clone() {
            let (profile, name) = profile(&key);
            if name == "frost" && frost.is_none() {
                eprintln!("skipped: {key}, since ROBUST_FROST names no folder of photos");
                continue;
            }
            let want = npz.bytes(&key);
            for level in 0..want.shape()[0] {
                let outputs = want.index_axis(ndarray::Axis(0), level).to_owned();
                for i in 0..want.shape()[1] {
                    let random = Random::numpy((1000 * (level + 1) + i) as u32);
                    let got = apply(&picture(&input, i), name, profile, level, random, frost.as_ref());
                    let want = picture(&outputs, i).samples;
                    compare(&format!("{key} s{} i{i}", level + 1), &got.samples, &want, &mut wrong);
                    seen += 1;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
    eprintln!("{seen} outputs equal");
}

#[test]
fn random_corruptions_of_a_large_image_are_the_published_ones_under_numpys_seed() {
    let Some(root) = root() else { return };
    if !listed(&root, "seeded_imagenet_img0.npz") || !listed(&root, "det_imagenet.npz") {
        return;
    }
    let (frost, windows, index) = (frost(), windows(&root), index(&root));
    let x = picture(&Npz::open(&root, "det_imagenet.npz").bytes("input"), 0);
    let mut npz = Npz::open(&root, "seeded_imagenet_img0.npz");
    let mut names: Vec<String> = npz.names.iter().filter_map(|k| Some(k.split_once("__win_")?.0.to_string())).collect();
    names.sort();
    names.dedup();
    let (mut wrong, mut whole) = (vec![], vec![]);
    for key in &names {
        let (profile, name) = profile(key);
        if name == "frost" && frost.is_none() {
            eprintln!("skipped: {key}, since ROBUST_FROST names no folder of photos");
            continue;
        }
        for level in 0..5 {
            let random = Random::numpy(1000 * (level as u32 + 1));
            let got = apply(&x, name, profile, level, random, frost.as_ref());
            let hash = &index["seeded_imagenet_full_hashes"][format!("{name}/s{}", level + 1)]["sha256_full"];
            whole.push((format!("{name} s{}", level + 1), hash == &sha256::hex(&got.samples)));
            // Severities 1, 3, 5 are stored.
            if level % 2 == 0 {
                for (w, &[y, x, h, wide]) in windows.iter().filter(|(w, _)| *w == "c" || *w == "br") {
                    let outputs = npz.bytes(&format!("{key}__win_{w}"));
                    let want = picture(&outputs, level / 2).samples;
                    let what = format!("{key} s{} at {y},{x}", level + 1);
                    compare(&what, &window(&got, y, x, h, wide), &want, &mut wrong);
                }
            }
        }
    }
    assert!(!names.is_empty() && wrong.is_empty(), "{}", wrong.join("\n"));
    let differ: Vec<&String> = whole.iter().filter(|(_, equal)| !equal).map(|(name, _)| name).collect();
    // Spatter and elastic may differ in a sample of 150,528; the windows above bound by how much.
    assert!(differ.iter().all(|n| n.starts_with("spatter")), "whole images that differ: {differ:?}");
}
