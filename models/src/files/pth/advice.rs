//! What to type where a file cannot be read.

use crate::options::EXPORT;

/// The one-line conversion for what cannot be read; `weights` is what to save, `d` being the loaded file.
pub(super) fn by_hand(weights: &str) -> String {
    format!(
        "export the model where its code is: {EXPORT}; or, if you trust the file and its tensors are those of an architecture known \
         here, convert it: python -c \"import torch, safetensors.torch as s; \
         d = torch.load('IN', map_location='cpu', weights_only=False); \
         s.save_file({{k: v.clone().contiguous() for k, v in {weights}.items() if torch.is_tensor(v)}}, 'OUT.safetensors')\""
    )
}

/// The same for a TorchScript program.
pub(super) fn by_script() -> String {
    "if you trust the file, export it where PyTorch is: model = torch.jit.load('IN', map_location='cpu'); \
     torch.onnx.export(model, x, \"net.onnx\", dynamo=False); or convert its weights: python -c \"import torch, safetensors.torch as s; \
     d = torch.jit.load('IN', map_location='cpu').state_dict(); \
     s.save_file({k: v.clone().contiguous() for k, v in d.items()}, 'OUT.safetensors')\""
        .into()
}

/// The export of a network whose code is the user's own; `weights` as in [`by_hand`].
pub(super) fn by_export(weights: &str) -> String {
    format!(
        "export it where its code is: python -c \"import torch; \
         model = torch.load('IN', map_location='cpu', weights_only=False).eval(); {}\" (the zeros have the shape of an image); \
         the weights alone, of a network that is known here: {}",
        EXPORT,
        by_hand(weights)
    )
}
