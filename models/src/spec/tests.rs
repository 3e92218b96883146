use super::*;
use crate::load;
use robust_core::{Input, Kind, Norm, Output};

#[test]
fn a_spec_has_a_label_a_source_and_parameters() {
    let parsed = parse("my net=dir/a.safetensors?arch=mnist-cnn&mean=0.1,0.2&std=1&strip=m.&input=1x28x28").unwrap();
    assert_eq!(parsed.name.as_deref(), Some("my net"));
    assert_eq!(parsed.source, Source::Safetensors("dir/a.safetensors".into()));
    let options = Options {
        arch: Some("mnist-cnn".into()),
        mean: Some(vec![0.1, 0.2]),
        std: Some(vec![1.]),
        strip: Some("m.".into()),
        input: Some([1, 28, 28]),
        ..Options::default()
    };
    assert_eq!(parsed.options, options);
    assert_eq!(parse("onnx:some/file").unwrap().source, Source::Onnx("some/file".into()));
    assert_eq!(parse("runs/lr=0.1/a.onnx.gz").unwrap().name, None);
}

#[test]
fn means_may_be_written_as_fractions() {
    let options = parse("a.onnx?mean=125.3/255,0.5&std=63/255,1").unwrap().options;
    assert_eq!((options.mean, options.std), (Some(vec![125.3 / 255., 0.5]), Some(vec![63. / 255., 1.])));
    for wrong in ["mean=1/0", "mean=1/2/3", "mean=/2", "std=0/255"] {
        assert_eq!(parse(&format!("a.onnx?{wrong}")).unwrap_err().kind, Kind::Usage, "{wrong}");
    }
}

#[test]
fn statistics_have_names_and_fractions() {
    let of = |query: &str| {
        let Options { mean, std, .. } = parse(&format!("a.onnx?{query}")).unwrap().options;
        (mean.unwrap_or_default(), std.unwrap_or_default())
    };
    assert_eq!(of("mean=imagenet"), (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]));
    assert_eq!(of("mean=half"), (vec![0.5], vec![0.5]));
    assert_eq!(of("std=cifar10"), of("mean=cifar10"));
    assert_eq!(of("std=0.2&mean=cifar10"), (vec![0.4914, 0.4822, 0.4465], vec![0.2]));
    assert_eq!(of("mean=125.3/255,0.5, 1&std=1/255"), (vec![125.3 / 255., 0.5, 1.], vec![1. / 255.]));
}

#[test]
fn what_makes_no_sense_is_a_usage_error_that_says_what_does() {
    for (spec, part) in [
        ("org/model", "hf:org/model"),
        ("org/model", "./org/model"),
        ("a.onnx?men=0.5", "did you mean `mean`"),
        ("a.onnx?mean=x", "mean=0.5,0.5,0.5"),
        ("a.onnx?mean=imagenett", "did you mean `mean=imagenet`"),
        ("a.onnx?mean=0.5/0", "not a list of numbers"),
        ("a.onnx?mean", "key=value"),
        ("a.onnx?std=0", "not positive"),
        ("a.onnx?strip=a&prefix=b", "twice"),
        ("a.onnx?input=3x32", "3x32x32"),
        ("a.pth?kee=x", "did you mean `key`"),
        ("hf:a/b/c", "not a name of a model"),
        ("http://host/model", "not supported yet"),
        ("cmd:python serve.py", "not supported yet"),
        ("onx:file", "did you mean `onnx:file`"),
        ("builtin:mnist-st", "builtin:mnist-std"),
        ("mnist-at", "builtin:mnist-at"),
        ("", "builtin:NAME"),
    ] {
        let error = parse(spec).unwrap_err();
        assert_eq!(error.kind, Kind::Usage, "{spec}: {error}");
        assert!(error.to_string().contains(part), "{spec}: {error}");
    }
}

#[test]
fn a_missing_file_is_answered_with_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), b"x").unwrap();
    let at = |name: &str| load(&folder.path().join(name).to_string_lossy()).unwrap_err();
    let error = at("modle.onnx");
    assert_eq!(error.kind, Kind::Load);
    assert!(error.to_string().contains("did you mean") && error.to_string().contains("model.onnx"), "{error}");
    assert!(at("elsewhere.safetensors").to_string().contains("holds model.onnx"));
    let folder_itself = load(&folder.path().to_string_lossy()).unwrap_err();
    assert_eq!(folder_itself.kind, Kind::Usage);
}

#[test]
fn built_in_models_load_under_their_names_with_their_threat() {
    for builtin in builtin::BUILTINS {
        let loaded = load(&format!("builtin:{}", builtin.name)).unwrap();
        assert_eq!(loaded.name, builtin.name);
        assert_eq!(loaded.card.input, Input::image(1, 28, 28));
        assert_eq!(loaded.card.output, Output::Logits { k: 10 });
        assert_eq!(loaded.card.default_threat, Some((Norm::Linf, 0.3)));
        assert_eq!(loaded.card.taps, ["relu3"]);
        assert_eq!(loaded.card.digest, robust_engine::digest(loaded.graph().unwrap()));
    }
    assert_eq!(load("a=builtin:mnist-at").unwrap().name, "a");
    assert_eq!(load("builtin:mnist-at?mean=1").unwrap_err().kind, Kind::Usage);
}
