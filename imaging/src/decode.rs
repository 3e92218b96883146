//! PNG and JPEG bytes -> pixels, with the sizes an attacker may claim bounded before anything is allocated.
//!
//! PNG values are exact: `v / 255` for 8 bits, `v / 65535` for 16. JPEG leaves the inverse transform and the enlarging
//! of subsampled colour to the decoder (zune-jpeg), which is not Pillow's (libjpeg-turbo). Measured against Pillow 13 at
//! 32x32: grey within 1 level; full-size colour (4:4:4) within 3, 0.02 on average; half-size colour (4:2:0) within 5,
//! 0.30 on average. Embedded colour profiles, gamma and EXIF orientation are not applied, as in Pillow and torchvision.

use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use robust_core::{Error, Kind, Result};
use std::io::Cursor;

/// Longest side accepted, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Most pixels accepted in one image.
pub const MAX_PIXELS: u64 = 64 << 20;
/// A decoded image of [`MAX_PIXELS`] with four 16-bit channels, the largest buffer the decoder may ask for.
const MAX_BYTES: u64 = MAX_PIXELS * 8;

/// One decoded image: `pixels` is `[channels, height, width]`, row-major, in [0,1].
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub pixels: Vec<f32>,
}

/// `(height, width)` from the header alone.
///
/// Errors ([`Kind::Load`]): not a PNG or JPEG, a broken header, or a size beyond [`MAX_SIDE`] or [`MAX_PIXELS`].
pub fn size(bytes: &[u8]) -> Result<(usize, usize)> {
    let (width, height) = reader(bytes)?.into_dimensions().map_err(unreadable)?;
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(bad(format!("image is {width}x{height}: at most {MAX_SIDE} per side and {MAX_PIXELS} pixels")));
    }
    Ok((height as usize, width as usize))
}

/// Pixels of a PNG or JPEG with `channels` 1 or 3. Grey becomes RGB by repetition; RGB becomes one channel only where
/// all three are equal everywhere; an alpha channel is dropped only where it is fully opaque, for blending it with a
/// background of our choice would make an image nobody stored.
///
/// Errors: [`Kind::Usage`] for other channel counts; [`Kind::Load`] for what [`size`] refuses, truncated or corrupt
/// data, transparency, and colour where one channel was asked for.
pub fn decode(bytes: &[u8], channels: usize) -> Result<Picture> {
    if !matches!(channels, 1 | 3) {
        return Err(Error::usage(format!("images decode to 1 or 3 channels, not {channels}")));
    }
    let (height, width) = size(bytes)?;
    let reader = reader(bytes)?;
    if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_ends(bytes) {
        return Err(bad("the JPEG ends before its end marker: truncated".to_string()));
    }
    let picture = reader.decode().map_err(unreadable)?;
    let stored = usize::from(picture.color().channel_count());
    let pixels = match &picture {
        DynamicImage::ImageLuma8(p) => planes(p, stored, channels, 255.),
        DynamicImage::ImageLumaA8(p) => planes(p, stored, channels, 255.),
        DynamicImage::ImageRgb8(p) => planes(p, stored, channels, 255.),
        DynamicImage::ImageRgba8(p) => planes(p, stored, channels, 255.),
        DynamicImage::ImageLuma16(p) => planes(p, stored, channels, 65535.),
        DynamicImage::ImageLumaA16(p) => planes(p, stored, channels, 65535.),
        DynamicImage::ImageRgb16(p) => planes(p, stored, channels, 65535.),
        DynamicImage::ImageRgba16(p) => planes(p, stored, channels, 65535.),
        other => Err(bad(format!("pixels of type {:?} are not read", other.color()))),
    }?;
    Ok(Picture { channels, height, width, pixels })
}

/// Interleaved samples (`stored` per pixel; the last is alpha when even) -> planes divided by `top`.
fn planes<T: Copy + Into<f32>>(samples: &[T], stored: usize, channels: usize, top: f32) -> Result<Vec<f32>> {
    let colours = if stored >= 3 { 3 } else { 1 };
    let value = |pixel: &[T], c: usize| -> f32 { pixel[c].into() };
    if stored > colours && samples.chunks_exact(stored).any(|p| value(p, colours) < top) {
        return Err(bad("image is partly transparent".to_string()).hint("flatten it onto a background first"));
    }
    let coloured = |p: &[T]| value(p, 0) != value(p, 1) || value(p, 0) != value(p, 2);
    if channels == 1 && colours == 3 && samples.chunks_exact(stored).any(coloured) {
        return Err(bad("image is in colour, one channel is wanted".to_string()).hint("convert it to grey first"));
    }
    let mut pixels = Vec::with_capacity(samples.len() / stored * channels);
    for c in 0..channels {
        let from = c.min(colours - 1);
        pixels.extend(samples.chunks_exact(stored).map(|p| value(p, from) / top));
    }
    Ok(pixels)
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| bad(e.to_string()))?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err(bad("not a PNG or JPEG image".to_string()));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    Ok(reader)
}

/// Whether the marker after the last scan is reached: the decoder fills what is missing with grey and says nothing.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&marker) = bytes.get(at + 1) {
        at += match (bytes[at], marker) {
            (0xFF, 0xD9) => return true,
            // Fill bytes, entropy-coded data with its stuffed zeros, and markers without a length.
            (0xFF, 0xFF) | (0..0xFF, _) => 1,
            (0xFF, 0 | 1 | 0xD0..=0xD8) => 2,
            (0xFF, _) => match (bytes.get(at + 2), bytes.get(at + 3)) {
                (Some(&high), Some(&low)) => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
        };
    }
    false
}

fn bad(why: String) -> Error {
    Error::new(Kind::Load, why)
}

fn unreadable(error: image::ImageError) -> Error {
    bad(error.to_string().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};
    use proptest::prelude::*;

    fn png(samples: &[u8], width: u32, height: u32, colour: ExtendedColorType) -> Vec<u8> {
        let mut bytes = vec![];
        PngEncoder::new(&mut bytes).write_image(samples, width, height, colour).unwrap();
        bytes
    }

    fn message(bytes: &[u8], channels: usize) -> String {
        decode(bytes, channels).unwrap_err().message
    }

    /// A hand-made PNG with any header, its checksums right: what an encoder would refuse to write.
    fn raw_png(width: u32, height: u32, depth: u8, colour: u8, chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
        let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
        header.extend([depth, colour, 0, 0, 0]);
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, body) in [(b"IHDR", header)].iter().chain(chunks).chain(&[(b"IEND", vec![])]) {
            bytes.extend((body.len() as u32).to_be_bytes());
            let checked = [kind.as_slice(), body].concat();
            bytes.extend(&checked);
            bytes.extend(crc32(&checked).to_be_bytes());
        }
        bytes
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &b| {
            (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 })
        })
    }

    /// A zlib stream of stored (uncompressed) bytes.
    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let (a, b) =
            bytes.iter().fold((1u32, 0u32), |(a, b), &v| ((a + u32::from(v)) % 65521, (a + u32::from(v) + b) % 65521));
        let len = bytes.len() as u16;
        [&[0x78, 1, 1][..], &len.to_le_bytes(), &(!len).to_le_bytes(), bytes, &(b << 16 | a).to_be_bytes()].concat()
    }

    #[test]
    fn rgb_becomes_planes_of_v_over_255() {
        let picture = decode(&png(&[0, 1, 2, 253, 254, 255], 2, 1, ExtendedColorType::Rgb8), 3).unwrap();
        assert_eq!((picture.channels, picture.height, picture.width), (3, 1, 2));
        assert_eq!(picture.pixels, [0., 253. / 255., 1. / 255., 254. / 255., 2. / 255., 1.]);
    }

    #[test]
    fn grey_repeats_and_equal_channels_collapse_but_colour_does_not() {
        let grey = png(&[7, 200], 1, 2, ExtendedColorType::L8);
        let (a, b) = (7. / 255., 200. / 255.);
        assert_eq!(decode(&grey, 3).unwrap().pixels, [a, b, a, b, a, b]);
        assert_eq!(decode(&grey, 1).unwrap().pixels, [a, b]);
        assert_eq!(decode(&png(&[7, 7, 7], 1, 1, ExtendedColorType::Rgb8), 1).unwrap().pixels, [a]);
        assert!(message(&png(&[7, 7, 8], 1, 1, ExtendedColorType::Rgb8), 1).contains("in colour"));
        assert_eq!(decode(&grey, 2).unwrap_err().kind, Kind::Usage);
    }

    #[test]
    fn alpha_is_dropped_only_when_opaque() {
        let opaque = png(&[1, 2, 3, 255], 1, 1, ExtendedColorType::Rgba8);
        assert_eq!(decode(&opaque, 3).unwrap().pixels, [1. / 255., 2. / 255., 3. / 255.]);
        assert!(message(&png(&[1, 2, 3, 254], 1, 1, ExtendedColorType::Rgba8), 3).contains("transparent"));
        assert!(message(&png(&[9, 0], 1, 1, ExtendedColorType::La8), 1).contains("transparent"));
    }

    #[test]
    fn sixteen_bits_keep_their_precision() {
        let samples = [1u16, 65535, 256].map(u16::to_ne_bytes).concat();
        let picture = decode(&png(&samples, 3, 1, ExtendedColorType::L16), 1).unwrap();
        assert_eq!(picture.pixels, [1. / 65535., 1., 256. / 65535.]);
    }

    #[test]
    fn a_palette_gives_its_colours_and_its_transparency_counts() {
        let palette = (b"PLTE", vec![255, 0, 51, 0, 102, 0]);
        let data = (b"IDAT", zlib(&[0, 0b0100_0000]));
        let opaque = decode(&raw_png(2, 1, 1, 3, &[palette.clone(), data.clone()]), 3).unwrap();
        assert_eq!(opaque.pixels, [1., 0., 0., 102. / 255., 51. / 255., 0.]);
        let clear = raw_png(2, 1, 1, 3, &[palette, (b"tRNS", vec![255, 10]), data]);
        assert!(message(&clear, 3).contains("transparent"));
    }

    #[test]
    fn claimed_sizes_are_refused_before_anything_is_allocated() {
        for (width, height) in [(1 << 30, 1 << 30), (16_385, 1), (16_000, 16_000)] {
            let bomb = raw_png(width, height, 8, 2, &[(b"IDAT", zlib(&[0, 0, 0, 0]))]);
            assert_eq!(decode(&bomb, 3).unwrap_err().kind, Kind::Load, "{width}x{height}");
            assert!(size(&bomb).is_err());
        }
    }

    #[test]
    fn a_jpeg_is_close_and_a_truncated_one_is_an_error() {
        let samples: Vec<u8> = (0..64 * 64).flat_map(|i| [(i % 64 * 4) as u8, (i / 64 * 4) as u8, 100]).collect();
        let mut bytes = vec![];
        JpegEncoder::new_with_quality(&mut bytes, 95).encode(&samples, 64, 64, ExtendedColorType::Rgb8).unwrap();
        let picture = decode(&bytes, 3).unwrap();
        let worst =
            picture.pixels[..4096].iter().zip(samples.chunks(3)).map(|(p, s)| (p * 255. - f32::from(s[0])).abs());
        assert!(worst.fold(0., f32::max) < 16.);
        for cut in [bytes.len() - 1, bytes.len() - 2, bytes.len() * 2 / 3, 200, 3] {
            assert_eq!(decode(&bytes[..cut], 3).unwrap_err().kind, Kind::Load, "cut at {cut}");
        }
        bytes.extend(b"trailing rubbish");
        assert_eq!(decode(&bytes, 3).unwrap(), picture);
    }

    #[test]
    fn a_truncated_png_is_an_error() {
        let bytes = png(&[9; 300], 10, 10, ExtendedColorType::Rgb8);
        for cut in [0, 7, 20, 40, bytes.len() - 20] {
            assert_eq!(decode(&bytes[..cut], 3).unwrap_err().kind, Kind::Load, "cut at {cut}");
        }
        assert!(message(b"GIF89a and more", 3).contains("not a PNG or JPEG"));
    }

    proptest! {
        #[test]
        fn damaged_images_never_panic(flips in proptest::collection::vec((0usize..2000, any::<u8>()), 1..20), jpeg: bool) {
            let samples = [3u8; 30 * 30 * 3];
            let mut bytes = vec![];
            if jpeg {
                JpegEncoder::new(&mut bytes).encode(&samples, 30, 30, ExtendedColorType::Rgb8).unwrap();
            } else {
                bytes = png(&samples, 30, 30, ExtendedColorType::Rgb8);
            }
            let len = bytes.len();
            for (at, value) in flips {
                bytes[at % len] = value;
            }
            if let Ok(picture) = decode(&bytes, 3) {
                prop_assert_eq!(picture.pixels.len(), 3 * picture.height * picture.width);
            }
        }
    }
}
