//! What `robust explain` can say beside attacks, built-in models, architectures and data sources.

use robust::benchmarks::corruptions::Suite;
use robust::encoder::heads::KINDS;
use robust::models::onnx::OPSETS;

/// Something with a name that a user may ask about, and its text.
pub struct Topic {
    pub name: &'static str,
    pub text: String,
}

/// Kinds of files that models come in: `docs/onnx.md` and `docs/encoders.md` have the details.
const FORMATS: [(&str, &str); 5] = [
    (
        "onnx",
        "A model as an ONNX file: --model net.onnx, also gzipped, with its weights beside it (net.onnx.data) or inside.\n\
         Opsets OLDEST to NEWEST; every gradient is the graph's own. `?output=NAME` takes another output, `?mean=` and `?std=` put a\n\
         normalisation in front. What loads and what does not, with the reason: docs/onnx.md; `robust inspect net.onnx` says it\n\
         of one file.",
    ),
    (
        "safetensors",
        "Weights as a safetensors file. The architecture is recognised by the names of the tensors, or said: \
         ?arch=NAME\n(`robust list models`), or layer by layer for an nn.Sequential of your own: ?layers=conv(s=2,p=1),relu,...",
    ),
    (
        "pth",
        "A PyTorch checkpoint (.pth, .pt, .ckpt, .tar): read as data, nothing in it runs. State dictionaries of any age, whole\n\
         modules of torch's own containers, TorchScript programs. `?key=` names a dictionary inside it, `?strip=` a prefix of its\n\
         names; the architecture as with safetensors. `robust convert` rewrites it.",
    ),
    (
        "ensemble",
        "Several models as one network: --model ensemble:A+B+C, scored by the logarithm of the mean of their probabilities,\n\
         or ?scores=probabilities, ?scores=logits. Mixtures of an accurate and a robust member are in docs/encoders.md.",
    ),
    (
        "hf",
        "A model of the Hugging Face hub: --model hf:ORG/NAME[@REV], or a folder with a config.json as `transformers` writes it.\n\
         Preprocessing is read from the folder.",
    ),
];

/// One sentence for each kind of head.
fn head(name: &str) -> &'static str {
    match name {
        "linear" => {
            "logistic regression on the embeddings, fitted by L-BFGS; `l2` is chosen on a held-out fifth unless it is said"
        }
        "sgd" => {
            "logistic regression on the embeddings, fitted by SGD with momentum, as linear probes are often published"
        }
        "prototypes" => "the mean direction of each class; the score is the cosine with it",
        "bayes" => "Gaussian naive Bayes on the embeddings",
        "knn" => {
            "the k nearest training embeddings vote, each with exp(cosine / temperature); attacks see steep and piecewise \
             gradients, so that such rows are graded doubtful"
        }
        _ => "",
    }
}

/// Corruption suites, kinds of heads, and kinds of files.
pub fn topics() -> Vec<Topic> {
    let suites = Suite::ALL.map(|s| Topic {
        name: s.name(),
        text: format!(
            "A suite of corruptions: {}.\n\nEvaluate under it: robust eval --model M --dataset D --corruptions {}\nWrite the images: \
             robust corrupt {} --dataset D --size CxHxW --out DIR\nOptions and what is comparable with published numbers: \
             docs/corruptions.md",
            s.summary(),
            s.name(),
            s.name()
        ),
    });
    let heads = KINDS.map(|(name, parameters)| Topic {
        name,
        text: format!(
            "A head for an encoder: {}.\nParameters: {}.\n\nWith a run: robust eval --model ENCODER --probe {name} --train DATA ...\n\
             As a file: robust probe --model ENCODER --train DATA --method {name} -o head.safetensors",
            head(name),
            if parameters.is_empty() { "none".to_string() } else { parameters.join(", ") }
        ),
    });
    let opsets =
        |text: &str| text.replace("OLDEST", &OPSETS.start().to_string()).replace("NEWEST", &OPSETS.end().to_string());
    let formats = FORMATS.map(|(name, text)| Topic { name, text: opsets(text) });
    suites.into_iter().chain(heads).chain(formats).collect()
}
