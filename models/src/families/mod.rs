//! Named architectures: what to build around the weights of a state dict, or what the settings of a folder of transformers describe.
//! A family is one file, or a folder with a file for each package whose names for the weights it reads (torchvision, timm,
//! transformers, the authors); to add one, write its file, its `mod` line and its row of the index below.

pub(crate) mod alexnet;
pub(crate) mod architecture;
pub(crate) mod beit;
pub(crate) mod bit;
pub(crate) mod body;
pub(crate) mod clip;
pub(crate) mod cnn;
pub(crate) mod convnext;
pub(crate) mod densenet;
pub(crate) mod efficientnet;
pub(crate) mod hiera;
pub(crate) mod mobilenet;
pub(crate) mod prefixes;
mod recognise;
pub(crate) mod regnet;
pub(crate) mod resnest;
pub(crate) mod resnet;
pub(crate) mod sequential;
pub(crate) mod sodef;
pub(crate) mod swin;
pub(crate) mod vgg;
pub(crate) mod vit;
pub(crate) mod wide_resnet;
pub(crate) mod xcit;

pub use architecture::{Architecture, Built};
use body::Family;
pub use recognise::build;

/// Recognised by the names of tensors, or named by `arch=`.
pub static ARCHITECTURES: &[Architecture] = &[
    cnn::mnist::ARCHITECTURE,
    alexnet::ARCHITECTURE,
    beit::ARCHITECTURE,
    bit::ARCHITECTURE,
    resnet::card::ARCHITECTURE,
    resnet::cifar::ARCHITECTURE,
    resnet::cifar_resnext::ARCHITECTURE,
    clip::openai::ARCHITECTURE,
    clip::openai_resnet::ARCHITECTURE,
    clip::timm::ARCHITECTURE,
    convnext::timm::ARCHITECTURE,
    densenet::ARCHITECTURE,
    resnet::deepmind::ARCHITECTURE,
    wide_resnet::deepmind::ARCHITECTURE,
    efficientnet::ARCHITECTURE,
    mobilenet::v2::ARCHITECTURE,
    mobilenet::v3::ARCHITECTURE,
    resnet::preact::ARCHITECTURE,
    wide_resnet::peng::ARCHITECTURE,
    regnet::ARCHITECTURE,
    resnest::ARCHITECTURE,
    resnet::torchvision::ARCHITECTURE,
    wide_resnet::huang::ARCHITECTURE,
    sodef::ARCHITECTURE,
    swin::timm::ARCHITECTURE,
    vit::torchvision::ARCHITECTURE,
    vgg::ARCHITECTURE,
    vit::timm::ARCHITECTURE,
    cnn::trades::ARCHITECTURE,
    wide_resnet::trades::ARCHITECTURE,
    cnn::wong_kolter::ARCHITECTURE,
    xcit::ARCHITECTURE,
];

/// Recognised by `model_type` in a folder's config.json.
pub(crate) static TRANSFORMERS: &[&[Family]] = &[
    vit::transformers::FAMILIES,
    clip::transformers::FAMILIES,
    swin::transformers::FAMILIES,
    hiera::FAMILIES,
    convnext::transformers::FAMILIES,
    resnet::transformers::FAMILIES,
    mobilenet::transformers::FAMILIES,
];

/// The `model_type`s that can be built.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    TRANSFORMERS.iter().flat_map(|f| f.iter()).flat_map(|f| f.types.iter().copied())
}
