//! Packed sections, unpacked when what they become is bounded: the unpackers trust the length a file states, or none.

use object::{CompressedData, CompressionFormat};

/// Deflate makes no more than 1032 bytes of one (zlib.net, "zlib Technical Details"); room is made for what a file states.
const MOST_OF_DEFLATE: u64 = 1_032;

/// The bytes of a section; `None` when they are damaged, or would be more than `most` unpacked.
pub fn unpacked(data: CompressedData<'_>, most: u64) -> Option<Vec<u8>> {
    let bound = match data.format {
        CompressionFormat::Zstandard => data.uncompressed_size.max(bound_of_zstd(data.data)?),
        CompressionFormat::Zlib if data.uncompressed_size / MOST_OF_DEFLATE > data.data.len() as u64 => return None,
        _ => data.uncompressed_size,
    };
    (bound <= most).then(|| data.decompress().ok())?.map(std::borrow::Cow::into_owned)
}

/// The most that the frames of a Zstandard section can unpack to.
pub fn bound_of_zstd(packed: &[u8]) -> Option<u64> {
    let (mut at, mut total) = (0, 0);
    while at < packed.len() {
        let magic = u32::from_le_bytes(*packed.get(at..)?.first_chunk()?);
        if magic & !15 == 0x184d_2a50 {
            let length = u32::from_le_bytes(*packed.get(at + 4..)?.first_chunk()?);
            at += 8 + usize::try_from(length).ok()?;
            continue;
        }
        let (end, length) = skip_frame(packed, at)?;
        (at, total) = (end, total + length);
    }
    (at == packed.len()).then_some(total)
}

/// The end of the Zstandard frame at `at`, and the most that it unpacks to.
fn skip_frame(packed: &[u8], at: usize) -> Option<(usize, u64)> {
    const LONGEST_BLOCK: u64 = 128 << 10;
    let descriptor = *packed.get(at + 4)?;
    let single = descriptor & 0x20 != 0;
    let content = match descriptor >> 6 {
        0 => usize::from(single),
        power => 1 << power,
    };
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let checksum = if descriptor & 4 == 0 { 0 } else { 4 };
    let (mut at, mut total) = (at + 5 + usize::from(!single) + dictionary + content, 0);
    loop {
        let header = packed.get(at..at + 3)?;
        let header = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let size = u64::from(header >> 3);
        let (stored, unpacked) = match header >> 1 & 3 {
            0 => (size, size),
            1 => (1, size),
            2 => (size, LONGEST_BLOCK),
            _ => return None,
        };
        total += unpacked;
        at += 3 + usize::try_from(stored).ok()?;
        if header & 1 != 0 {
            return Some((at + checksum, total));
        }
    }
}

/// Something to unpack, as the tools pack it.
#[cfg(test)]
pub(crate) mod samples {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    /// What `program` makes of `bytes`; `None`, and a word about it, where it is missing.
    pub(crate) fn packed(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let started = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = started else {
            eprintln!("skipped: no {program}");
            return None;
        };
        let mut input = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&bytes).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Some(output.stdout)
    }

    /// 800,000 bytes.
    pub(crate) fn text() -> Vec<u8> {
        (0u32..200_000).flat_map(|number| (number.wrapping_mul(number) % 1013).to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        bound_of_zstd,
        samples::{packed, text},
    };

    #[test]
    fn the_most_of_zstandard_is_known_before_unpacking() {
        let Some(packed) = packed("zstd", &text()) else { return };
        let bound = bound_of_zstd(&packed).unwrap();
        assert!((800_000..800_000 + (256 << 10)).contains(&bound), "{bound}");
        assert_eq!(bound_of_zstd(&[packed.clone(), packed.clone()].concat()), Some(2 * bound));
        assert_eq!(bound_of_zstd(&packed[..packed.len() - 9]), None);
    }
}
