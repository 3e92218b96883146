//! PNG, JPEG, WebP, PPM, BMP and TIFF bytes -> pixels, with the sizes an attacker may claim bounded before anything is
//! allocated.
//!
//! Lossless values are exact: `v / 255` for 8 bits, `v / 65535` for 16. JPEG is decoded by [`crate::jpeg`], value for
//! value as Pillow (libjpeg-turbo) does. Embedded colour profiles, gamma and EXIF orientation are not applied, as in
//! Pillow and torchvision. What is transparent is laid over white.

use crate::jpeg;
use crate::limits::{MAX_PIXELS, MAX_SIDE, bad};
use crate::resize::Bytes;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use robust_core::{Error, Result, caught};
use std::io::Cursor;

/// A decoded image of [`MAX_PIXELS`] with four 16-bit channels, the largest buffer the decoder may ask for.
const MAX_BYTES: u64 = MAX_PIXELS * 8;

/// One decoded image: `pixels` is `[channels, height, width]`, row-major, in `[0,1]`.
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
/// Errors ([`Kind::Load`](robust_core::Kind::Load)): none of the formats, a broken header, or a size beyond [`MAX_SIDE`] or [`MAX_PIXELS`].
pub fn size(bytes: &[u8]) -> Result<(usize, usize)> {
    if jpeg::is_jpeg(bytes) {
        return jpeg::size(bytes);
    }
    let (width, height) = guarded(|| reader(bytes)?.into_dimensions().map_err(unreadable))?;
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(bad(format!("image is {width}x{height}: at most {MAX_SIDE} per side and {MAX_PIXELS} pixels")));
    }
    Ok((height as usize, width as usize))
}

/// One image with the channels that were asked for: interleaved, nothing transparent left.
#[derive(Debug, Clone, PartialEq)]
pub struct Flat {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub samples: Samples,
    /// Whether part of it was transparent, and was laid over white.
    pub transparent: bool,
}

impl Flat {
    /// `[channels, height, width]` in `[0,1]`.
    pub fn planes(&self) -> Vec<f32> {
        match &self.samples {
            Samples::U8(v) => planes(v, self.channels, 255.),
            Samples::U16(v) => planes(v, self.channels, 65535.),
        }
    }

    /// Least and greatest value, in `[0,1]`.
    pub fn range(&self) -> (f32, f32) {
        fn ends<T: Copy + Ord + Into<f32>>(v: &[T], top: f32) -> (f32, f32) {
            let share = |v: &T| -> f32 {
                let v: f32 = (*v).into();
                v / top
            };
            (v.iter().min().map_or(0., share), v.iter().max().map_or(0., share))
        }
        match &self.samples {
            Samples::U8(v) => ends(v, 255.),
            Samples::U16(v) => ends(v, 65535.),
        }
    }

    /// As bytes; 16 bits are rounded to the nearest of the 256 levels.
    ///
    /// # Errors
    /// Those of [`Bytes::new`].
    pub fn bytes(self) -> Result<Bytes> {
        let samples = match self.samples {
            Samples::U8(v) => v,
            Samples::U16(v) => v.into_iter().map(|v| ((u32::from(v) + 128) / 257) as u8).collect(),
        };
        Bytes::new(self.height, self.width, self.channels, samples)
    }
}

/// An image with `channels` 1 or 3. Grey becomes RGB by repetition; RGB becomes one channel only where all three are
/// equal everywhere. Partly transparent pixels are laid over white.
///
/// Errors: [`Kind::Usage`](robust_core::Kind::Usage) for other channel counts; [`Kind::Load`](robust_core::Kind::Load) for what [`size`] refuses, truncated or corrupt
/// data, and colour where one channel was asked for.
pub fn flat(bytes: &[u8], channels: usize) -> Result<Flat> {
    let Stored { height, width, per_pixel, samples } = stored(bytes)?;
    let (samples, transparent) = match samples {
        Samples::U8(v) => {
            let (v, transparent) = flatten(v, per_pixel, channels, 255)?;
            (Samples::U8(v), transparent)
        }
        Samples::U16(v) => {
            let (v, transparent) = flatten(v, per_pixel, channels, 65535)?;
            (Samples::U16(v), transparent)
        }
    };
    Ok(Flat { height, width, channels, samples, transparent })
}

/// [`flat`] as pixels.
///
/// Errors: those of [`flat`].
pub fn decode(bytes: &[u8], channels: usize) -> Result<Picture> {
    let image = flat(bytes, channels)?;
    Ok(Picture { channels, height: image.height, width: image.width, pixels: image.planes() })
}

/// [`flat`] as interleaved bytes, for those who compute with bytes as Pillow does.
///
/// Errors: those of [`flat`].
pub fn decode_bytes(bytes: &[u8], channels: usize) -> Result<Bytes> {
    flat(bytes, channels)?.bytes()
}

/// What the file holds, whatever its channels.
///
/// Errors ([`Kind::Load`](robust_core::Kind::Load)): what [`size`] refuses, truncated or corrupt data, and pixels that are not 8 or 16 bits.
pub fn stored(bytes: &[u8]) -> Result<Stored> {
    let (height, width) = size(bytes)?;
    if jpeg::is_jpeg(bytes) {
        let jpeg::Jpeg { channels, pixels, .. } = jpeg::decode(bytes)?;
        return Ok(Stored { height, width, per_pixel: channels, samples: Samples::U8(pixels) });
    }
    let picture = guarded(|| reader(bytes)?.decode().map_err(unreadable))?;
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

/// The decoders are other people's, and some answer broken files by a panic.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|| Err(bad("the image is broken: its decoder gave up".to_string())))
}

/// Interleaved samples with `per_pixel` each -> with `channels` each, and whether any of it was transparent.
fn flatten<T>(samples: Vec<T>, per_pixel: usize, channels: usize, top: T) -> Result<(Vec<T>, bool)>
where
    T: Copy + PartialEq + Into<u64> + TryFrom<u64>,
{
    if !matches!(channels, 1 | 3) {
        return Err(Error::usage(format!("images decode to 1 or 3 channels, not {channels}")));
    }
    if per_pixel == channels {
        return Ok((samples, false));
    }
    let colours = if per_pixel >= 3 { 3 } else { 1 };
    let whole: u64 = top.into();
    // The mean of colour and white, weighted by the alpha value and rounded.
    let over_white = |v: T, alpha: u64| {
        let v: u64 = v.into();
        let sum = v * alpha + whole * (whole - alpha);
        T::try_from((sum + whole / 2) / whole).unwrap_or(top)
    };
    let (mut out, mut transparent) = (Vec::with_capacity(samples.len() / per_pixel * channels), false);
    for pixel in samples.chunks_exact(per_pixel) {
        let mut shown = [top; 3];
        shown[..colours].copy_from_slice(&pixel[..colours]);
        if per_pixel > colours && pixel[colours] != top {
            transparent = true;
            shown.iter_mut().for_each(|v| *v = over_white(*v, pixel[colours].into()));
        }
        if channels == 1 && colours == 3 && (shown[0] != shown[1] || shown[0] != shown[2]) {
            return Err(bad("image is in colour, one channel is wanted".to_string()).hint("convert it to grey first"));
        }
        out.extend((0..channels).map(|c| shown[c.min(colours - 1)]));
    }
    Ok((out, transparent))
}

/// Interleaved samples to planes divided by `top`.
fn planes<T: Copy + Into<f32>>(samples: &[T], channels: usize, top: f32) -> Vec<f32> {
    let plane = |c: usize| samples.iter().skip(c).step_by(channels).map(|&v| v.into() / top);
    (0..channels).flat_map(plane).collect()
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| bad(e.to_string()))?;
    use ImageFormat::{Bmp, Png, Pnm, Tiff, WebP};
    if !matches!(reader.format(), Some(Png | WebP | Pnm | Bmp | Tiff)) {
        return Err(bad("not a PNG, JPEG, WebP, PPM, BMP or TIFF image".to_string()));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    Ok(reader)
}

fn unreadable(error: image::ImageError) -> Error {
    bad(error.to_string().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};
    use proptest::prelude::*;
    use robust_core::Kind;

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
    fn what_is_transparent_is_laid_over_white() {
        let opaque = png(&[1, 2, 3, 255], 1, 1, ExtendedColorType::Rgba8);
        assert_eq!(decode(&opaque, 3).unwrap().pixels, [1. / 255., 2. / 255., 3. / 255.]);
        assert!(!flat(&opaque, 3).unwrap().transparent);
        // As Pillow's Image.alpha_composite over white gives them.
        let partly = png(&[0, 100, 200, 0, 0, 100, 200, 128, 10, 20, 30, 254], 3, 1, ExtendedColorType::Rgba8);
        let laid = flat(&partly, 3).unwrap();
        assert!(laid.transparent);
        assert_eq!(laid.samples, Samples::U8(vec![255, 255, 255, 127, 177, 227, 11, 21, 31]));
        let grey = flat(&png(&[9, 0, 9, 255], 2, 1, ExtendedColorType::La8), 1).unwrap();
        assert_eq!((grey.samples, grey.transparent), (Samples::U8(vec![255, 9]), true));
        let wide = [0u16, 0, 0, 32768].map(u16::to_ne_bytes).concat();
        let wide = flat(&png(&wide, 1, 1, ExtendedColorType::Rgba16), 3).unwrap();
        assert_eq!((wide.samples, wide.transparent), (Samples::U16(vec![32767; 3]), true));
    }

    #[test]
    fn sixteen_bits_are_rounded_where_bytes_are_wanted() {
        let samples = [0u16, 128, 129, 257, 32896, 65535].map(u16::to_ne_bytes).concat();
        let image = decode_bytes(&png(&samples, 3, 2, ExtendedColorType::L16), 1).unwrap();
        assert_eq!(image.samples, [0, 0, 1, 1, 128, 255]);
    }

    #[test]
    fn a_palette_that_is_not_of_whole_colours_is_an_error_not_a_panic() {
        let data = (b"IDAT", zlib(&[0, 0, 1]));
        for bytes in [1, 2, 4, 5] {
            let broken = raw_png(2, 1, 8, 3, &[(b"PLTE", vec![1; bytes]), data.clone()]);
            assert_eq!(decode(&broken, 3).unwrap_err().kind, Kind::Load, "{bytes} bytes");
        }
        assert_eq!(decode(&raw_png(2, 1, 8, 3, &[data]), 3).unwrap_err().kind, Kind::Load);
    }

    #[test]
    fn plain_formats_give_their_levels() {
        let (a, b) = (0., 102. / 255.);
        assert_eq!(decode(b"P3 2 1 255\n0 102 255 0 0 0\n", 3).unwrap().pixels, [a, 0., b, 0., 1., 0.]);
        assert_eq!(decode(b"P6 2 1 255\n\x00\x66\xff\x00\x00\x00", 3).unwrap().pixels, [a, 0., b, 0., 1., 0.]);
        assert_eq!(decode(b"P5 2 1 255\n\x66\xff", 1).unwrap().pixels, [b, 1.]);
        // Fewer levels than 256 are stretched, as Pillow does.
        assert_eq!(decode(b"P5 3 1 15\n\x00\x06\x0f", 1).unwrap().pixels, [0., b, 1.]);
        let sample = [0u8, 102, 255, 0, 0, 0];
        for format in [ImageFormat::Bmp, ImageFormat::Tiff] {
            let mut bytes = Cursor::new(vec![]);
            let picture = image::RgbImage::from_raw(2, 1, sample.to_vec()).unwrap();
            picture.write_to(&mut bytes, format).unwrap();
            let bytes = bytes.into_inner();
            assert_eq!(decode(&bytes, 3).unwrap().pixels, [a, 0., b, 0., 1., 0.], "{format:?}");
            for cut in [3, bytes.len() / 2, bytes.len() - 1] {
                let _ = decode(&bytes[..cut], 3);
            }
        }
        for bomb in [&b"P6 60000 60000 255\n"[..], b"P5 16385 1 255\n\x00", b"P6 4000000000 4000000000 255\n"] {
            assert_eq!(decode(bomb, 3).unwrap_err().kind, Kind::Load);
        }
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
        let clear = raw_png(2, 1, 1, 3, &[palette, (b"tRNS", vec![255, 0]), data]);
        assert_eq!(decode(&clear, 3).unwrap().pixels, [1., 1., 0., 1., 51. / 255., 1.]);
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
        assert!(message(b"GIF89a and more", 3).contains("not a PNG, JPEG, WebP, PPM, BMP or TIFF"));
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
