//! PNG files of 8-bit pixels.

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use robust_core::{Error, Result};

/// The nearest of 256 levels to a pixel in `[0,1]`.
pub fn level(pixel: f32) -> u8 {
    (pixel.clamp(0., 1.) * 255.).round() as u8
}

/// A PNG of interleaved bytes `[height, width, channels]`, 1 or 3 channels.
///
/// # Errors
/// Kind `Usage` for other channel counts, kind `Internal` when the sizes disagree.
pub fn png(bytes: &[u8], height: usize, width: usize, channels: usize) -> Result<Vec<u8>> {
    let colour = match channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        n => {
            return Err(
                Error::usage(format!("an image of {n} channels has no PNG")).hint("export it as npy or safetensors")
            );
        }
    };
    let side =
        |n: usize| u32::try_from(n).map_err(|_| Error::usage(format!("a side of {n} pixels is too long for a PNG")));
    if bytes.len() != height * width * channels {
        return Err(Error::internal(format!("{} bytes for {height}x{width}x{channels} pixels", bytes.len())));
    }
    let mut out = vec![];
    PngEncoder::new(&mut out)
        .write_image(bytes, side(width)?, side(height)?, colour)
        .map_err(|e| Error::internal(format!("png: {e}")))?;
    Ok(out)
}

/// Planes `[c, h, w]` of pixels in `[0,1]` as interleaved bytes `[h, w, c]`.
pub fn interleaved(pixels: &[f32], channels: usize) -> Vec<u8> {
    let plane = pixels.len() / channels.max(1);
    (0..plane).flat_map(|p| (0..channels).map(move |c| level(pixels[c * plane + p]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() -> Result<()> {
        for channels in [1, 3] {
            let pixels: Vec<f32> = (0..channels * 6).map(|i| i as f32 * 12. / 255.).collect();
            let file = png(&interleaved(&pixels, channels), 2, 3, channels)?;
            let read = crate::decode(&file, channels)?;
            assert_eq!((read.height, read.width), (2, 3));
            assert!(read.pixels.iter().zip(&pixels).all(|(a, b)| (a - b).abs() < 1e-6), "{:?}", read.pixels);
        }
        assert!(png(&[0; 8], 2, 2, 2).is_err());
        Ok(())
    }

    #[test]
    fn levels_are_the_nearest() {
        assert_eq!(
            [level(0.), level(1.), level(0.5 / 255. - 1e-6), level(0.5 / 255. + 1e-6), level(7.)],
            [0, 255, 0, 1, 255]
        );
    }
}
