//! PNG, JPEG and WebP bytes -> pixels, with the sizes an attacker may claim bounded before anything is allocated.
//!
//! PNG and lossless WebP values are exact: `v / 255` for 8 bits, `v / 65535` for 16. JPEG is decoded by [`crate::jpeg`],
//! value for value as Pillow (libjpeg-turbo) does. Embedded colour profiles, gamma and EXIF orientation are not applied,
//! as in Pillow and torchvision.

use crate::jpeg;
use crate::resize::Bytes;
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

/// The samples of one image as stored: interleaved, the last of a pixel is alpha when their number is even.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub height: usize,
    pub width: usize,
    /// 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
    pub per_pixel: usize,
    pub samples: Samples,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
}

/// `(height, width)` from the header alone.
///
/// Errors ([`Kind::Load`]): not a PNG, JPEG or WebP, a broken header, or a size beyond [`MAX_SIDE`] or [`MAX_PIXELS`].
pub fn size(bytes: &[u8]) -> Result<(usize, usize)> {
    if jpeg::is_jpeg(bytes) {
        return jpeg::size(bytes);
    }
    let (width, height) = reader(bytes)?.into_dimensions().map_err(unreadable)?;
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(bad(format!("image is {width}x{height}: at most {MAX_SIDE} per side and {MAX_PIXELS} pixels")));
    }
    Ok((height as usize, width as usize))
}

/// Pixels of an image with `channels` 1 or 3. Grey becomes RGB by repetition; RGB becomes one channel only where
/// all three are equal everywhere; an alpha channel is dropped only where it is fully opaque, for blending it with a
/// background of our choice would make an image nobody stored.
///
/// Errors: [`Kind::Usage`] for other channel counts; [`Kind::Load`] for what [`size`] refuses, truncated or corrupt
/// data, transparency, and colour where one channel was asked for.
pub fn decode(bytes: &[u8], channels: usize) -> Result<Picture> {
    let Stored { height, width, per_pixel, samples } = stored(bytes)?;
    let pixels = match samples {
        Samples::U8(v) => planes(&opaque(&v, per_pixel, channels, 255)?, channels, 255.),
        Samples::U16(v) => planes(&opaque(&v, per_pixel, channels, 65535)?, channels, 65535.),
    };
    Ok(Picture { channels, height, width, pixels })
}

/// [`decode`] as interleaved bytes, for those who compute with bytes as Pillow does.
///
/// Errors: those of [`decode`], and 16-bit samples, which have more than a byte can hold.
pub fn decode_bytes(bytes: &[u8], channels: usize) -> Result<Bytes> {
    let Stored { height, width, per_pixel, samples } = stored(bytes)?;
    match samples {
        Samples::U8(v) => Bytes::new(height, width, channels, opaque(&v, per_pixel, channels, 255)?),
        Samples::U16(_) => Err(bad("image has 16 bits per sample, 8 are wanted to resize it".to_string())),
    }
}

/// What the file holds, whatever its channels.
///
/// Errors ([`Kind::Load`]): what [`size`] refuses, truncated or corrupt data, and pixels that are not 8 or 16 bits.
pub fn stored(bytes: &[u8]) -> Result<Stored> {
    let (height, width) = size(bytes)?;
    if jpeg::is_jpeg(bytes) {
        let jpeg::Jpeg { channels, pixels, .. } = jpeg::decode(bytes)?;
        return Ok(Stored { height, width, per_pixel: channels, samples: Samples::U8(pixels) });
    }
    let picture = reader(bytes)?.decode().map_err(unreadable)?;
    let per_pixel = usize::from(picture.color().channel_count());
    let samples = match picture {
        DynamicImage::ImageLuma8(p) => Samples::U8(p.into_raw()),
        DynamicImage::ImageLumaA8(p) => Samples::U8(p.into_raw()),
        DynamicImage::ImageRgb8(p) => Samples::U8(p.into_raw()),
        DynamicImage::ImageRgba8(p) => Samples::U8(p.into_raw()),
        DynamicImage::ImageLuma16(p) => Samples::U16(p.into_raw()),
        DynamicImage::ImageLumaA16(p) => Samples::U16(p.into_raw()),
        DynamicImage::ImageRgb16(p) => Samples::U16(p.into_raw()),
        DynamicImage::ImageRgba16(p) => Samples::U16(p.into_raw()),
        other => return Err(bad(format!("pixels of type {:?} are not read", other.color()))),
    };
    Ok(Stored { height, width, per_pixel, samples })
}

/// Interleaved samples with `per_pixel` each -> with `channels` each, where nothing is lost by it.
fn opaque<T: Copy + PartialEq>(samples: &[T], per_pixel: usize, channels: usize, top: T) -> Result<Vec<T>> {
    if !matches!(channels, 1 | 3) {
        return Err(Error::usage(format!("images decode to 1 or 3 channels, not {channels}")));
    }
    let colours = if per_pixel >= 3 { 3 } else { 1 };
    let pixels = || samples.chunks_exact(per_pixel);
    if per_pixel > colours && pixels().any(|p| p[colours] != top) {
        return Err(bad("image is partly transparent".to_string()).hint("flatten it onto a background first"));
    }
    if channels == 1 && colours == 3 && pixels().any(|p| p[0] != p[1] || p[0] != p[2]) {
        return Err(bad("image is in colour, one channel is wanted".to_string()).hint("convert it to grey first"));
    }
    Ok(pixels().flat_map(|p| (0..channels).map(|c| p[c.min(colours - 1)])).collect())
}

/// Interleaved samples to planes divided by `top`.
fn planes<T: Copy + Into<f32>>(samples: &[T], channels: usize, top: f32) -> Vec<f32> {
    let plane = |c: usize| samples.iter().skip(c).step_by(channels).map(|&v| v.into() / top);
    (0..channels).flat_map(plane).collect()
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| bad(e.to_string()))?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::WebP)) {
        return Err(bad("not a PNG, JPEG or WebP image".to_string()));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    Ok(reader)
}

pub(crate) fn bad(why: String) -> Error {
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
        assert!(message(b"GIF89a and more", 3).contains("not a PNG, JPEG or WebP"));
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
