//! The image towers of CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023) in transformers' names.

use crate::families::body::{Body, Family, Made};
use crate::families::vit::transformers::{Sizes, grid, learned, patches, places, tower};
use crate::layers::attention_pool::{AttentionPool, TRANSFORMERS};
use crate::layers::tokens::{reshape, token};
use robust_core::{Error, Result};
use robust_engine::Op;

pub static FAMILIES: &[Family] = &[
    Family { types: &["clip", "clip_vision_model"], prefixes: &[], build: clip },
    Family { types: &["siglip", "siglip_vision_model"], prefixes: &[], build: siglip },
];

/// What transformers leave out of an image tower's settings because it is usual; CLIP's patches are twice as large.
const USUAL: [(&str, usize); 6] = [
    ("hidden_size", 768),
    ("intermediate_size", 3072),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 12),
    ("image_size", 224),
    ("patch_size", 16),
];

fn clip(b: &mut Body) -> Result<Made> {
    let both = b.config.clone();
    let c = both.vision().or_usual(&[("patch_size", 32)]).or_usual(&USUAL);
    let sizes = Sizes::of(&c, 1e-5, "quick_gelu")?;
    let (grid, patch) = grid(b, &c)?;
    let v = "vision_model";
    let x = patches(&mut b.stack, b.input, &format!("{v}.embeddings.patch_embedding"), sizes.width, patch, false)?;
    let class = b.stack.constant(&format!("{v}.embeddings.class_embedding"), &[sizes.width])?;
    let class = reshape(&mut b.stack, class, "class", &[1, 1, sizes.width])?;
    let x = b.stack.net.node("with_class", Op::Concat { axis: 1 }, &[class, x])?;
    let shape = [1 + learned(&c, patch)?, sizes.width];
    let places = places(b, &format!("{v}.embeddings.position_embedding.weight"), &shape, 1, grid, false)?;
    let x = b.stack.add(x, places, "placed")?;
    // The name is spelt so in every file.
    let x = b.stack.layer_norm(x, &format!("{v}.pre_layrnorm"), sizes.eps)?;
    let x = tower(&mut b.stack, x, v, &sizes, None)?;
    let x = token(&mut b.stack, x, "class_token", 0)?;
    let mut x = b.stack.layer_norm(x, &format!("{v}.post_layernorm"), sizes.eps)?;
    if both.text("model_type") == Some("clip") || b.stack.dict.contains("visual_projection.weight") {
        x = b.stack.linear_with(x, "visual_projection", both.size_or("projection_dim", 512)?, false)?;
    }
    b.without_text();
    b.no_head("CLIP")?;
    Ok(Made::Embedding(x))
}

fn siglip(b: &mut Body) -> Result<Made> {
    let both = b.config.clone();
    let c = both.vision().or_usual(&USUAL);
    if !c.flag_or("vision_use_head", true)? {
        return Err(Error::load(
            "`vision_use_head` in config.json",
            "towers without their pooling head are not supported yet",
        ));
    }
    let sizes = Sizes::of(&c, 1e-6, "gelu_pytorch_tanh")?;
    let (grid, patch) = grid(b, &c)?;
    let v = "vision_model";
    let x = patches(&mut b.stack, b.input, &format!("{v}.embeddings.patch_embedding"), sizes.width, patch, true)?;
    let shape = [learned(&c, patch)?, sizes.width];
    let places = places(b, &format!("{v}.embeddings.position_embedding.weight"), &shape, 0, grid, false)?;
    let x = b.stack.add(x, places, "placed")?;
    let x = tower(&mut b.stack, x, v, &sizes, None)?;
    let x = b.stack.layer_norm(x, &format!("{v}.post_layernorm"), sizes.eps)?;
    let Sizes { heads, hidden, eps, act, .. } = sizes;
    let pool = AttentionPool { names: &TRANSFORMERS, heads, hidden, eps, act };
    let x = pool.lay(&mut b.stack, x, &format!("{v}.head"))?;
    b.without_text();
    b.no_head("SigLIP")?;
    Ok(Made::Embedding(x))
}
