//! Points leave as files that others, and we ourselves, can read.

use crate::nets::{Planted, Tail};
use crate::support::Place;
use serde_json::Value;

#[test]
fn points_leave_as_images_and_arrays_and_come_back() {
    let place = Place::new();
    let run = "eval --model builtin:mnist-at --first 70 --attack pgd:eps=0.3,steps=10";
    place.ok(&format!("{run} --out run"));
    let said = place.ok("export run --out adv --png --npy --safetensors --contact-sheet --json");
    let json: Value = serde_json::from_str(&said.out).unwrap();
    let result = &json["results"][0];
    let lines: Vec<Value> =
        place.read("run/outcomes.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let fooled: Vec<u64> =
        lines.iter().filter(|l| l["verdict"] == "fooled").map(|l| l["id"].as_u64().unwrap()).collect();
    assert!(fooled.len() > 3);
    assert_eq!(result["points"], fooled.len());
    let dir = format!("adv/{}", result["folder"].as_str().unwrap());
    for id in &fooled {
        assert!(place.path(&format!("{dir}/{id:08}.png")).is_file());
    }
    assert!(place.path(&format!("{dir}/sheet.png")).is_file());
    // The arrays are a data set again, and the points an attack that fools the same samples.
    let list: Vec<String> = fooled.iter().map(u64::to_string).collect();
    std::fs::write(place.path("ids"), list.join("\n")).unwrap();
    let judged = |points: &str, out: &str| -> u64 {
        let json = place.ok(&format!(
            "eval --model builtin:mnist-at --ids ids --attack file:{points},eps=0.3,norm=linf --out {out} --format json"
        ));
        serde_json::from_str::<Value>(&json.out).unwrap()["results"][0]["fooled"].as_u64().unwrap()
    };
    assert_eq!(judged(&format!("{dir}/points.safetensors"), "again"), fooled.len() as u64);
    // `npy:` takes two paths with a comma between them, which an attack spec cannot hold: as a data set it can.
    assert!(
        place.ok(&format!("inspect npy:{dir}/x.npy,{dir}/y.npy")).out.contains(&format!("{} samples", fooled.len()))
    );
    let survive = result["survive_8bit"].as_u64().unwrap() + result["illegal_8bit"].as_u64().unwrap();
    assert!(survive > 0 && survive <= fooled.len() as u64);
    place.ok("eval --model builtin:mnist-at --first 4 --attack fgsm:eps=0.1 --evidence none --out none");
    place.fails("export none --out nothing", 4, &["no adversarial points", "--evidence"]);
}

#[test]
fn images_of_whole_levels_are_legal_by_their_levels() {
    let place = Place::new();
    let planted = Planted::new(&place, 80, 8, 4);
    planted.net(&place, "lin.onnx", &Tail { nodes: &[], constants: &[] });
    place.ok("eval --model lin.onnx --dataset npy:d.npy,y.npy --attack pgd-linf:eps=8/255,steps=20 --out run");
    let said = place.ok("export run --out adv --png --json");
    let result = serde_json::from_str::<Value>(&said.out).unwrap()["results"][0].clone();
    // Every level is within eight of the clean one, so none is outside.
    let fooled = result["fooled"].as_u64().unwrap();
    assert!(fooled > 30, "{result}");
    assert_eq!(result["illegal_8bit"], 0, "{result}");
    assert!(result["survive_8bit"].as_u64().unwrap() > fooled * 3 / 4, "{result}");
}
