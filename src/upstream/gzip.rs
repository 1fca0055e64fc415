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
