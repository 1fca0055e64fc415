//! How large images and documents are, read from their first bytes; and what vendors count for them.

use data_encoding::BASE64;
use memchr::memmem;

/// Something in a prompt that is no text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Media {
    /// Width and height in pixels, where they can be told.
    Image(Option<(u64, u64)>),
    /// A document of so many pages.
    Pdf(u64),
    /// Sealed or unknown bytes, which no rule is known for.
    Opaque,
}

/// Anthropic's documentation, "Vision": width × height / 750, after shrinking to 1568 pixels on the long edge and about
/// 1600 tokens; "PDF support": 1,500 to 3,000 tokens a page for its text, and its image besides (published
/// measurements of plain pages: 2,100 to 2,350). Models that take larger images count up to three times as much.
pub(super) fn anthropic(media: Media) -> u64 {
    match media {
        Media::Image(None) => ANTHROPIC_IMAGE_MAX,
        Media::Image(Some(size)) => {
            let (width, height) = fit(size, 1568);
            (width * height).div_ceil(750).clamp(1, ANTHROPIC_IMAGE_MAX)
        }
        Media::Pdf(pages) => pages * PDF_PAGE,
        Media::Opaque => 0,
    }
}

const ANTHROPIC_IMAGE_MAX: u64 = 1600;

const PDF_PAGE: u64 = 2300;

/// OpenAI's documentation, "Images and vision": shrunk into 2048 × 2048, then to 768 on the short edge, 170 tokens for
/// each tile of 512 × 512 and 85 besides. Its newer models count patches, which comes to about as much.
pub(super) fn openai(media: Media) -> u64 {
    match media {
        Media::Image(size) => {
            let (width, height) = fit(size.unwrap_or((1024, 1024)), 2048);
            let short = width.min(height).max(768);
            let tiles = |edge: u64| (edge * 768 / short).div_ceil(512).max(1);
            85 + 170 * tiles(width) * tiles(height)
        }
        Media::Pdf(pages) => pages * PDF_PAGE,
        Media::Opaque => 0,
    }
}

/// Shrinks a size so that its long edge is at most `edge`.
fn fit((width, height): (u64, u64), edge: u64) -> (u64, u64) {
    let long = width.max(height).max(edge);
    (width * edge / long, height * edge / long)
}

/// What a URL leads to: its own bytes, or something elsewhere, most likely an image.
pub(super) fn of_url(url: &str) -> Media {
    if url.starts_with("data:") {
        return of_base64(url).unwrap_or(Media::Opaque);
    }
    if url.ends_with(".pdf") { Media::Pdf(1) } else { Media::Image(None) }
}

/// What some base64 is, told by its first bytes. `None`: it is none, or reads like text.
pub(super) fn of_base64(data: &str) -> Option<Media> {
    let data = data.split_once(";base64,").map_or(data, |(_, data)| data).as_bytes();
    let head = decode(data.get(..HEAD_BYTES).unwrap_or(data))?;
    match head.as_slice() {
        [b'%', b'P', b'D', b'F', ..] => Some(Media::Pdf(pages(&decode(data)?))),
        [0x89, b'P', b'N', b'G', ..] => Some(Media::Image(png(&head))),
        [b'G', b'I', b'F', b'8', ..] => Some(Media::Image(gif(&head))),
        [0xff, 0xd8, ..] => Some(Media::Image(jpeg(&head))),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Media::Image(webp(&head))),
        // Short words are base64 as well.
        _ if data.len() < OPAQUE_BYTES_MIN => None,
        _ => Some(Media::Opaque),
    }
}

/// As much base64 as an image's size stands in: behind 64 KiB of camera data at most.
const HEAD_BYTES: usize = 128 * 1024;

const OPAQUE_BYTES_MIN: usize = 256;

/// Decodes whole groups of four: some leave the padding out.
fn decode(data: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(data.get(..data.len() - data.len() % 4)?).ok()
}

/// The pages of a PDF. Where they are packed away, a guess by its length.
fn pages(pdf: &[u8]) -> u64 {
    let is_page = |at: usize| !pdf.get(at).is_some_and(u8::is_ascii_alphabetic);
    let found = [&b"/Type /Page"[..], b"/Type/Page"];
    let count = |mark: &&[u8]| memmem::find_iter(pdf, mark).filter(|at| is_page(at + mark.len())).count();
    match found.iter().map(count).sum::<usize>() {
        0 => pdf.len().div_ceil(PACKED_PAGE_BYTES) as u64,
        pages => pages as u64,
    }
    .clamp(1, PAGES_MAX)
}

/// A printed page, packed, with its share of fonts.
const PACKED_PAGE_BYTES: usize = 50 * 1024;

/// More pages no vendor takes.
const PAGES_MAX: u64 = 1000;

fn big(bytes: &[u8], at: usize) -> Option<u64> {
    let [high, low] = *bytes.get(at..)?.first_chunk()?;
    Some(u64::from(u16::from_be_bytes([high, low])))
}

fn little(bytes: &[u8], at: usize) -> Option<u64> {
    let [low, high] = *bytes.get(at..)?.first_chunk()?;
    Some(u64::from(u16::from_le_bytes([low, high])))
}

/// The header chunk comes first; sizes have four bytes.
fn png(head: &[u8]) -> Option<(u64, u64)> {
    let edge = |at: usize| head.get(at..)?.first_chunk().map(|b| u64::from(u32::from_be_bytes(*b)));
    Some((edge(16)?, edge(20)?))
}

fn gif(head: &[u8]) -> Option<(u64, u64)> {
    Some((little(head, 6)?, little(head, 8)?))
}

/// Steps over the segments to the first that begins a frame.
fn jpeg(head: &[u8]) -> Option<(u64, u64)> {
    let mut at = 2;
    loop {
        let [0xff, marker] = *head.get(at..)?.first_chunk()? else {
            return None;
        };
        match marker {
            // Fill bytes, and marks without a length.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                return Some((big(head, at + 7)?, big(head, at + 5)?));
            }
            _ => at += 2 + usize::try_from(big(head, at + 2)?).ok()?,
        }
    }
}

/// Its three kinds keep their sizes in three ways.
fn webp(head: &[u8]) -> Option<(u64, u64)> {
    let byte = |at: usize| head.get(at).copied().map(u64::from);
    match head.get(12..16)? {
        b"VP8 " => Some((little(head, 26)? & 0x3fff, little(head, 28)? & 0x3fff)),
        b"VP8L" => {
            let bits = little(head, 21)? | little(head, 23)? << 16;
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => {
            let edge = |at: usize| Some(byte(at)? + (byte(at + 1)? << 8) + (byte(at + 2)? << 16) + 1);
            Some((edge(24)?, edge(27)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expect: Option<Media>) {
        assert_eq!(of_base64(&BASE64.encode(bytes)), expect);
        assert_eq!(of_base64(&format!("data:x/y;base64,{}", BASE64.encode(bytes))), expect);
    }

    #[test]
    fn reads_the_size_of_every_kind_of_image() {
        let size = Some(Media::Image(Some((640, 480))));
        check(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xe0\x08", size);
        check(b"GIF89a\x80\x02\xe0\x01\0", size);
        check(b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc2\0\x11\x08\x01\xe0\x02\x80\x03", size);
        check(b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x80\x02\xe0\x01", size);
        check(b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x7f\xc2\x77\x00", size);
        check(b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\x7f\x02\0\xdf\x01\0", size);
    }

    #[test]
    fn whatever_is_cut_off_is_an_image_all_the_same() {
        let unknown = Some(Media::Image(None));
        check(b"\x89PNG\r\n\x1a\n", unknown);
        check(b"GIF89a", unknown);
        check(b"\xff\xd8\xff\xe0\xff\xff", unknown);
        check(b"\xff\xd8\xff\xe0\0\0", unknown);
        check(b"RIFF\0\0\0\0WEBPVP8L", unknown);
        assert_eq!(of_base64("hello, world"), None);
        assert_eq!(of_base64("hello"), None, "a word is text");
        check(&[7; 400], Some(Media::Opaque));
        assert_eq!(of_url("https://example.com/a.png"), Media::Image(None));
        assert_eq!(of_url("data:,hi"), Media::Opaque);
    }

    #[test]
    fn counts_pages() {
        check(b"%PDF-1.4 /Type /Pages /Count 2 /Type /Page /x /Type/Page>>", Some(Media::Pdf(2)));
        check(&[b"%PDF-1.7 ".to_vec(), vec![0; 120_000]].concat(), Some(Media::Pdf(3)));
        check(b"%PDF-", Some(Media::Pdf(1)));
    }

    /// The examples of the vendors' documentation.
    #[test]
    fn counts_what_vendors_say() {
        let image = |width, height| Media::Image(Some((width, height)));
        assert_eq!(anthropic(image(200, 200)), 54);
        assert_eq!(anthropic(image(1000, 1000)), 1334);
        assert_eq!(anthropic(image(1092, 1092)), 1590);
        assert_eq!(anthropic(image(8000, 8000)), 1600);
        assert_eq!(openai(image(1024, 1024)), 765);
        assert_eq!(openai(image(2048, 4096)), 1105);
        assert_eq!(openai(image(100, 100)), 255);
        assert_eq!((anthropic(image(0, 0)), openai(image(0, 0))), (1, 255));
        assert_eq!(anthropic(image(u64::from(u32::MAX), 1)), 1);
    }
}
