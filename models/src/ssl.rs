//! The encoder inside checkpoints of self-supervised training: which prefix it has there, and which tensors beside it are
//! heads and queues of the training. Prefixes are those of the methods' own evaluation code.

use crate::weights::StateDict;

/// How one method's checkpoints look.
struct Method {
    name: &'static str,
    /// What the encoder's names start with.
    keep: &'static str,
    /// One of these must be there too, so that another file's prefix is not mistaken for it.
    marks: &'static [&'static str],
    /// Starts of names within the encoder that are heads of the training.
    drop: &'static [&'static str],
}

const METHODS: &[Method] = &[
    Method { name: "MoCo v1 or v2", keep: "module.encoder_q.", marks: &["module.encoder_q."], drop: &["fc."] },
    Method { name: "MoCo v3", keep: "module.base_encoder.", marks: &["module.base_encoder."], drop: &["fc.", "head."] },
    Method { name: "SimSiam", keep: "module.encoder.", marks: &["module.predictor."], drop: &["fc."] },
    Method {
        name: "SwAV",
        keep: "module.",
        marks: &["module.prototypes.", "module.projection_head."],
        drop: &["prototypes.", "projection_head."],
    },
    Method {
        name: "SwAV",
        keep: "",
        marks: &["prototypes.weight", "projection_head.0."],
        drop: &["prototypes.", "projection_head."],
    },
    Method {
        name: "Barlow Twins, VICReg or DINO",
        keep: "module.backbone.",
        marks: &["module.projector.", "module.head."],
        drop: &["fc.", "head."],
    },
    Method { name: "DINO", keep: "backbone.", marks: &["head.last_layer.", "head.mlp."], drop: &["fc.", "head."] },
    Method {
        name: "solo-learn",
        keep: "backbone.",
        marks: &["projector.", "predictor.", "momentum_backbone.", "prototypes."],
        drop: &["fc."],
    },
    Method { name: "BYOL", keep: "online_encoder.net.", marks: &["target_encoder.net."], drop: &["fc.", "head."] },
    Method {
        name: "MSN",
        keep: "module.",
        marks: &["module.fc.fc1.", "module.pred."],
        drop: &["fc.", "pred.", "head."],
    },
    Method { name: "MAE", keep: "", marks: &["decoder_pred."], drop: &["mask_token", "decoder_"] },
];

/// The encoder of a training checkpoint, if the names are those of one.
pub fn encoder(dict: &StateDict) -> Option<StateDict> {
    let method = METHODS.iter().find(|m| dict.any(m.keep) && m.marks.iter().any(|mark| dict.any(mark)))?;
    let Method { name, keep, drop, .. } = method;
    let mut inner = dict.clone();
    inner.keep(keep, &format!("it is not part of the encoder of {name}"));
    let mut inner = inner.strip(keep)?;
    if !keep.is_empty() {
        inner.note(format!("the encoder of {name} is at `{keep}*`"));
    }
    if *name == "MoCo v3" && inner.contains("patch_embed.proj.weight") {
        inner.note("MoCo v3's small transformer has 12 heads of 32, not 6 of 64: say `?heads=12` for it");
    }
    drop.iter().for_each(|head| inner.ignore(head, &format!("it is a head of {name}'s training")));
    Some(inner)
}
