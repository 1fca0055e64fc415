//! Undoes gzip and deflate where an upstream compresses although it was asked not to.
//!
//! Compressed chunks are pushed, plain ones are pulled, each of bounded size: a bomb grows only as fast as its reader
//! pulls. No I/O happens here.

use bytes::{Buf, Bytes};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use http::{HeaderMap, header};

use crate::upstream::error::ReadError;

/// What `content-encoding` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Deflate,
    Unknown,
}

impl Coding {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut coding = Self::Identity;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            for name in value.as_bytes().split(|b| *b == b',') {
                coding = match (coding, name.trim_ascii().to_ascii_lowercase().as_slice()) {
                    (before, b"" | b"identity") => before,
                    (Self::Identity, b"gzip" | b"x-gzip") => Self::Gzip,
                    (Self::Identity, b"deflate") => Self::Deflate,
                    // Twice compressed is not worth a third decoder.
                    _ => return Self::Unknown,
                };
            }
        }
        coding
    }
}

/// A decoder.
#[derive(Debug)]
pub(super) struct Inflate {
    input: Bytes,
    state: State,
    /// Nothing has come yet: an empty body is complete, whatever its label says.
    untouched: bool,
}

#[derive(Debug)]
enum State {
    /// The start of a gzip member's header, waiting for the rest.
    Header(Vec<u8>),
    /// Deflate whose first byte tells whether it has zlib's wrapping; many servers leave that out.
    Sniff,
    Inflating(Decompress, Option<Crc>),
    /// gzip: the checksum and length that end a member.
    Trailer(Vec<u8>, Crc),
    /// Between members of a gzip file, where it may end.
    Between,
    /// After zlib's or raw deflate's end.
    Ended,
}

impl Inflate {
    pub(super) fn gzip() -> Self {
        Self { input: Bytes::new(), state: State::Header(Vec::new()), untouched: true }
    }

    pub(super) fn deflate() -> Self {
        Self { input: Bytes::new(), state: State::Sniff, untouched: true }
    }

    /// Takes the next chunk. The one before must have been pulled empty.
    pub(super) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.input.is_empty(), "pull until there is nothing first");
        self.untouched = false;
        self.input = chunk;
    }

    /// Whether the input may end here.
    pub(super) fn is_complete(&self) -> bool {
        self.untouched || matches!(self.state, State::Between | State::Ended)
    }

    /// The next plain chunk; `None`: push more.
    pub(super) fn pull(&mut self) -> Result<Option<Bytes>, ReadError> {
        loop {
            match &mut self.state {
                State::Header(seen) => {
                    if !gather_header(seen, &mut self.input)? {
                        return Ok(None);
                    }
                    self.state = State::Inflating(Decompress::new(false), Some(Crc::new()));
                }
                State::Sniff => {
                    let Some(first) = self.input.first() else {
                        return Ok(None);
                    };
                    // RFC 1950: the low four bits of zlib's first byte are 8. Of raw deflate's they would mean a
                    // stored block with stray bits, which no encoder writes.
                    self.state = State::Inflating(Decompress::new(first & 0x0f == 8), None);
                }
                State::Inflating(inflate, crc) => {
                    let (chunk, status) = step(inflate, &mut self.input)?;
                    if let Some(crc) = crc {
                        crc.update(&chunk);
                    }
                    if status == Status::StreamEnd {
                        self.state = match crc.take() {
                            Some(crc) => State::Trailer(Vec::new(), crc),
                            None => State::Ended,
                        };
                    } else if chunk.is_empty() {
                        return Ok(None);
                    }
                    if !chunk.is_empty() {
                        return Ok(Some(chunk.into()));
                    }
                }
                State::Trailer(seen, crc) => {
                    while seen.len() < 8 && self.input.has_remaining() {
                        seen.push(self.input.get_u8());
                    }
                    let Ok(trailer) = <[u8; 8]>::try_from(seen.as_slice()) else {
                        return Ok(None);
                    };
                    // RFC 1952: both little-endian, the length modulo 2^32.
                    let expect = (u64::from(crc.amount()) << 32) | u64::from(crc.sum());
                    if u64::from_le_bytes(trailer) != expect {
                        return Err(ReadError::Encoding);
                    }
                    self.state = State::Between;
                }
                State::Between if self.input.is_empty() => return Ok(None),
                State::Between => self.state = State::Header(Vec::new()),
                State::Ended if self.input.is_empty() => return Ok(None),
                State::Ended => return Err(ReadError::Encoding),
            }
        }
    }
}

/// Inflates as much as fits into one chunk.
fn step(inflate: &mut Decompress, input: &mut Bytes) -> Result<(Vec<u8>, Status), ReadError> {
    let mut out = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let (read, wrote) = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress_vec(input, &mut out, FlushDecompress::None).map_err(|_| ReadError::Encoding)?;
        let taken = usize::try_from(inflate.total_in() - read).unwrap_or(usize::MAX);
        input.advance(taken.min(input.len()));
        let stuck = taken == 0 && inflate.total_out() == wrote;
        if status == Status::StreamEnd || stuck || out.len() == out.capacity() {
            return Ok((out, status));
        }
    }
}

/// Most plain bytes made at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Gathers a gzip header byte by byte; whether it is whole now (RFC 1952 2.3).
fn gather_header(seen: &mut Vec<u8>, input: &mut Bytes) -> Result<bool, ReadError> {
    loop {
        if is_header(seen)? {
            return Ok(true);
        }
        if HEADER_BYTES_MAX <= seen.len() {
            return Err(ReadError::Encoding);
        }
        if !input.has_remaining() {
            return Ok(false);
        }
        seen.push(input.get_u8());
    }
}

/// Longest gzip header read: ten bytes and perhaps a file's name.
const HEADER_BYTES_MAX: usize = 1024;

/// Whether these bytes are a whole gzip header.
fn is_header(bytes: &[u8]) -> Result<bool, ReadError> {
    const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
    if bytes.iter().zip(MAGIC).any(|(a, b)| *a != b) {
        return Err(ReadError::Encoding);
    }
    let Some((fixed, mut rest)) = bytes.split_at_checked(10) else {
        return Ok(false);
    };
    let flags = fixed.get(3).copied().unwrap_or_default();
    if flags & EXTRA != 0 {
        let Some((length, after)) = rest.split_first_chunk::<2>() else {
            return Ok(false);
        };
        let Some((_, after)) = after.split_at_checked(usize::from(u16::from_le_bytes(*length))) else {
            return Ok(false);
        };
        rest = after;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let Some(end) = memchr::memchr(0, rest) else {
                return Ok(false);
            };
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
    Ok(flags & HEADER_CRC == 0 || 2 <= rest.len())
}

const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &[u8] = b"data: one\n\ndata: two\n\ndata: one\n\n";

    fn gzipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// All that comes out of chunks; `None` if they are refused or the end is missing.
    fn decode(mut inflate: Inflate, chunks: &[&[u8]]) -> Option<Vec<u8>> {
        let mut plain = Vec::new();
        for chunk in chunks {
            inflate.push(Bytes::copy_from_slice(chunk));
            while let Some(more) = inflate.pull().ok()? {
                assert!(!more.is_empty() && more.len() <= CHUNK_BYTES, "bounded, and never nothing");
                plain.extend_from_slice(&more);
            }
        }
        inflate.is_complete().then_some(plain)
    }

    /// Decodes it cut at every byte, byte by byte, and shortened at every byte.
    #[track_caller]
    fn check(make: fn() -> Inflate, coded: &[u8], expect: &[u8]) {
        for at in 0..=coded.len() {
            let (a, b) = coded.split_at(at);
            assert_eq!(decode(make(), &[a, b]).as_deref(), Some(expect), "cut at {at}");
        }
        let bytes: Vec<&[u8]> = coded.chunks(1).collect();
        assert_eq!(decode(make(), &bytes).as_deref(), Some(expect), "byte by byte");
        for length in 1..coded.len() {
            assert_eq!(decode(make(), &[&coded[..length]]), None, "only {length} bytes came");
        }
    }

    #[test]
    fn any_cut_decodes_and_any_end_missing_is_seen() {
        check(Inflate::gzip, &gzipped(TEXT), TEXT);
        check(Inflate::gzip, &gzipped(b""), b"");
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(TEXT).unwrap();
        check(Inflate::deflate, &zlib.finish().unwrap(), TEXT);
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(TEXT).unwrap();
        check(Inflate::deflate, &raw.finish().unwrap(), TEXT);
    }

    #[test]
    fn reads_headers_with_all_that_may_stand_in_them() {
        let mut coded = flate2::GzBuilder::new()
            .filename("name")
            .comment("words")
            .extra("xy")
            .write(Vec::new(), Compression::fast());
        coded.write_all(TEXT).unwrap();
        check(Inflate::gzip, &coded.finish().unwrap(), TEXT);
    }

    #[test]
    fn members_follow_one_another() {
        let mut both = gzipped(b"one ");
        both.extend(gzipped(b"two"));
        assert_eq!(decode(Inflate::gzip(), &[&both]).as_deref(), Some(&b"one two"[..]));
    }

    #[test]
    fn an_event_is_readable_as_soon_as_it_is_flushed() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"data: one\n\n").unwrap();
        encoder.flush().unwrap();
        let mut inflate = Inflate::gzip();
        inflate.push(Bytes::copy_from_slice(encoder.get_ref()));
        assert_eq!(inflate.pull().unwrap().unwrap(), "data: one\n\n");
    }

    #[test]
    fn a_bomb_swells_only_as_it_is_pulled() {
        let coded = gzipped(&vec![0; 50 << 20]);
        let mut inflate = Inflate::gzip();
        inflate.push(coded.into());
        let mut pulled = 0;
        while let Some(chunk) = inflate.pull().unwrap() {
            assert!(chunk.len() <= CHUNK_BYTES, "{} bytes at once", chunk.len());
            pulled += chunk.len();
        }
        assert_eq!((pulled, inflate.is_complete()), (50 << 20, true));
    }

    #[test]
    fn refuses_what_is_not_what_it_says() {
        let mut bad_sum = gzipped(TEXT);
        let at = bad_sum.len() - 5;
        bad_sum[at] ^= 1;
        let mut trailing = gzipped(TEXT);
        trailing.extend(b"more");
        let mut named = vec![0x1f, 0x8b, 8, NAME, 0, 0, 0, 0, 0, 0];
        named.extend(vec![b'n'; 2000]);
        for bad in [&bad_sum[..], &trailing, &named, b"{\"plain\":1}"] {
            assert_eq!(decode(Inflate::gzip(), &[bad]), None);
        }
        assert_eq!(decode(Inflate::gzip(), &[]).as_deref(), Some(&b""[..]), "nothing at all is an empty body");
    }

    #[test]
    fn reads_the_label() {
        for (values, expect) in [
            (&[][..], Coding::Identity),
            (&["identity"], Coding::Identity),
            (&["GZip"], Coding::Gzip),
            (&["x-gzip , identity"], Coding::Gzip),
            (&["deflate"], Coding::Deflate),
            (&["gzip", "br"], Coding::Unknown),
            (&["zstd"], Coding::Unknown),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            assert_eq!(Coding::of(&headers), expect, "{values:?}");
        }
    }
}
