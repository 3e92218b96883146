//! What the families of transformers build with, and what they give.

use crate::layers::stack::Stack;
use crate::layers::tokens::Act;
use crate::settings::Config;
use robust_core::{Error, Result};
use robust_engine::NodeId;

/// Folders of these `model_type`s are built by this function.
pub(crate) struct Family {
    pub types: &'static [&'static str],
    /// What the body's names start with where a head lies beside it.
    pub prefixes: &'static [&'static str],
    pub build: fn(&mut Body) -> Result<Made>,
}

/// The output of a body.
pub(crate) enum Made {
    Logits(NodeId),
    Embedding(NodeId),
}

/// How tokens become one embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    Class,
    Mean,
}

/// What a family builds with.
pub(crate) struct Body<'a> {
    pub stack: Stack<'a>,
    pub config: Config,
    pub input: NodeId,
    /// Height and width of the input.
    pub size: [usize; 2],
    pub prefix: String,
    /// Whether `architectures` names a classifier.
    pub classifies: bool,
    /// What the user says of pooling, and whether it was asked for.
    pub pool: Option<String>,
    pub pooled: bool,
}

impl Body<'_> {
    pub fn pool(&mut self) -> Result<Pool> {
        self.pooled = true;
        match self.pool.as_deref() {
            None | Some("cls") => Ok(Pool::Class),
            Some("mean") => Ok(Pool::Mean),
            Some(other) => Err(Error::usage(format!("`pool={other}` is not known")).hint("`cls` and `mean` are")),
        }
    }

    /// The last linear layer; the weights say how many classes there are, the settings where they are missing.
    pub fn classifier(&mut self, x: NodeId, name: &str) -> Result<Made> {
        let found = self.stack.dict.dims(&format!("{name}.weight")).and_then(|d| d.first()).copied();
        let said = self.config.entries("id2label");
        let classes = found.or(said).unwrap_or(2);
        if let (Some(found), Some(said)) = (found, said.filter(|n| *n != classes)) {
            self.stack.dict.note(format!("the weights have {found} classes, config.json names {said}"));
        }
        self.stack.linear(x, name, classes).map(Made::Logits)
    }

    /// Sets the tensors of a text tower aside.
    pub fn without_text(&mut self) {
        for prefix in ["text_model.", "text_projection.", "logit_scale", "logit_bias"] {
            self.stack.dict.ignore(prefix, "the text tower makes heads (`robust probe --method text`)");
        }
    }

    pub fn no_head(&self, family: &str) -> Result<()> {
        match self.classifies {
            true => Err(Error::load(
                "`architectures` in config.json",
                format!("{family} with a classifier is not supported yet"),
            )),
            false => Ok(()),
        }
    }
}

impl Act {
    /// `hidden_act` of the settings.
    pub fn of(config: &Config, usual: &str) -> Result<Self> {
        Self::named(config.text("hidden_act").unwrap_or(usual))
            .map_err(|why| Error::load("`hidden_act` in config.json", why))
    }
}
