//! Examples made by any other tool are judged like our own.

use crate::support::Place;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

/// A run's evidence as a file another tool might have written: the points in order of ids, moved by `shift`.
fn points(place: &Place, run: &str, name: &str, shift: f32) -> u64 {
    let bytes = std::fs::read(place.path(run).join("evidence/m00-a00-00000000.safetensors")).unwrap();
    let x = SafeTensors::deserialize(&bytes).unwrap().tensor("x").unwrap().data().to_vec();
    let shifted = x.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()) + shift);
    let x: Vec<u8> = shifted.flat_map(|v| v.clamp(0., 1.).to_le_bytes()).collect();
    let n = x.len() / 4 / 784;
    // No labels, and a name of their own: the points are all there is.
    let x = TensorView::new(Dtype::F32, vec![n, 1, 28, 28], &x).unwrap();
    std::fs::write(place.path(name), safetensors::serialize([("mine", x)], None).unwrap()).unwrap();
    n as u64
}

#[test]
fn points_of_another_tool_get_the_verdict_they_deserve() {
    let place = Place::new();
    let run = "eval --model builtin:mnist-std --first 20";
    place.ok(&format!("{run} --attack pgd:eps=0.2,steps=20 --evidence all --out made"));
    let lines = |run: &str| -> Vec<Value> {
        place.read(&format!("{run}/outcomes.jsonl")).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let made = lines("made");
    assert!(made.iter().all(|l| l["verdict"] != "clean_miss"), "every sample must have a point");
    assert_eq!(points(&place, "made", "adv.safetensors", 0.), 20);
    let said = place.ok(&format!("{run} --attack file:adv.safetensors,eps=0.2,norm=linf --out judged"));
    assert!(said.out.contains("file-"), "{}", said.out);
    for (a, b) in made.iter().zip(lines("judged")) {
        assert_eq!((&a["verdict"], &a["best"], &a["distance"]), (&b["verdict"], &b["best"], &b["distance"]));
        assert_eq!(b["cost"]["search"]["forward"], 1);
    }
    place.ok("verify judged");
    // The same as one .npy file.
    let bytes = std::fs::read(place.path("adv.safetensors")).unwrap();
    let x = SafeTensors::deserialize(&bytes).unwrap().tensor("mine").unwrap().data().to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (20, 1, 28, 28), }\n";
    let npy = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &x].concat();
    std::fs::write(place.path("adv.npy"), npy).unwrap();
    place.ok(&format!("{run} --attack file:adv.npy,eps=0.2,norm=linf --out from_npy"));
    for (a, b) in lines("judged").iter().zip(lines("from_npy")) {
        assert_eq!((&a["verdict"], &a["best"], &a["distance"]), (&b["verdict"], &b["best"], &b["distance"]));
    }
    // Points outside the ball do not count, unless they are moved into it.
    points(&place, "made", "far.safetensors", 0.05);
    place.ok(&format!("{run} --attack file:far.safetensors,eps=0.2,norm=linf --out far"));
    assert!(lines("far").iter().all(|l| l["verdict"] == "held" && l["why"].as_str().unwrap().contains("threat model")));
    place.ok("verify far");
    place.ok(&format!("{run} --attack file:far.safetensors,eps=0.2,norm=linf,project=true --out moved"));
    assert!(lines("moved").iter().any(|l| l["verdict"] == "fooled"));
    place.ok("verify moved");
    place.fails(&format!("{run} --attack file:gone.npz,eps=0.2"), 4, &["gone.npz"]);
    place.fails(
        "eval --model builtin:mnist-std --first 21 --attack file:adv.safetensors,eps=0.2",
        4,
        &["20 points", "one row per sample"],
    );
}
