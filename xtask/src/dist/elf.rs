//! What an ELF file says of itself: whether a loader or a library must be there to run it, and whether names are left in it.
//!
//! 64-bit little-endian only, which all our targets are. Names of fields and numbers: elf(5).

/// Program header types.
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

/// Section type of a symbol table that `strip` takes away.
const SHT_SYMTAB: u32 = 2;

/// The tag of a needed library, and of the end of the dynamic section.
const DT_NEEDED: u64 = 1;
const DT_NULL: u64 = 0;

/// What of a file matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// It names a loader.
    interpreter: bool,
    /// It names so many shared libraries.
    needed: usize,
    /// It has a symbol table.
    symbols: bool,
}

impl Image {
    /// Static and stripped, or why not.
    pub(crate) fn check(self) -> Result<(), String> {
        if self.interpreter {
            return Err("it names a loader (PT_INTERP), so it is not static".to_owned());
        }
        if self.needed > 0 {
            return Err(format!(
                "it needs {} shared libraries (DT_NEEDED), so it is not static",
                self.needed
            ));
        }
        if self.symbols {
            return Err("it has a symbol table (SHT_SYMTAB), so it is not stripped".to_owned());
        }
        Ok(())
    }
}

/// Reads the headers.
pub(crate) fn read(file: &[u8]) -> Result<Image, String> {
    if file.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("it is not a 64-bit little-endian ELF file".to_owned());
    }
    let mut image = Image {
        interpreter: false,
        needed: 0,
        symbols: false,
    };
    let (start, size, count) = (number(file, 32, 8)?, number(file, 54, 2)?, number(file, 56, 2)?);
    for index in 0..count {
        let at = start + index * size;
        match number(file, at, 4)? as u32 {
            PT_INTERP => image.interpreter = true,
            PT_DYNAMIC => image.needed = needed(file, number(file, at + 8, 8)?, number(file, at + 32, 8)?)?,
            _ => {}
        }
    }
    let (start, size, count) = (number(file, 40, 8)?, number(file, 58, 2)?, number(file, 60, 2)?);
    for index in 0..count {
        image.symbols |= number(file, start + index * size + 4, 4)? as u32 == SHT_SYMTAB;
    }
    Ok(image)
}

fn needed(file: &[u8], start: u64, length: u64) -> Result<usize, String> {
    let mut count = 0;
    for at in (start..start + length).step_by(16) {
        match number(file, at, 8)? {
            DT_NULL => break,
            DT_NEEDED => count += 1,
            _ => {}
        }
    }
    Ok(count)
}

/// A little-endian number of `size` bytes.
fn number(file: &[u8], at: u64, size: usize) -> Result<u64, String> {
    let at = usize::try_from(at).map_err(|_| "it points outside itself")?;
    let bytes = at
        .checked_add(size)
        .and_then(|end| file.get(at..end))
        .ok_or("it ends in the middle of a header")?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with the given program headers (type, offset, size), dynamic entries at 512, and section types.
    fn image(programs: &[(u32, u64, u64)], dynamic: &[u64], sections: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 4096];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01");
        put(32, &64_u64.to_le_bytes());
        put(40, &2048_u64.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        put(56, &(programs.len() as u16).to_le_bytes());
        put(58, &64_u16.to_le_bytes());
        put(60, &(sections.len() as u16).to_le_bytes());
        for (index, (kind, offset, size)) in programs.iter().enumerate() {
            put(64 + index * 56, &kind.to_le_bytes());
            put(64 + index * 56 + 8, &offset.to_le_bytes());
            put(64 + index * 56 + 32, &size.to_le_bytes());
        }
        for (index, tag) in dynamic.iter().enumerate() {
            put(512 + index * 16, &tag.to_le_bytes());
        }
        for (index, kind) in sections.iter().enumerate() {
            put(2048 + index * 64 + 4, &kind.to_le_bytes());
        }
        file
    }

    #[test]
    fn images() {
        let check = |file: &[u8], expected: Result<(), &str>| {
            let found = read(file).and_then(Image::check);
            match expected {
                Ok(()) => assert_eq!(found, Ok(())),
                Err(part) => assert!(found.clone().is_err_and(|why| why.contains(part)), "{found:?} says {part}"),
            }
        };
        check(b"#!/bin/sh", Err("not a 64-bit"));
        check(b"\x7fELF\x02\x01", Err("in the middle"));
        check(&image(&[(1, 0, 0), (PT_INTERP, 600, 10)], &[], &[]), Err("a loader"));
        check(
            &image(&[(PT_DYNAMIC, 512, 64)], &[14, DT_NEEDED, DT_NEEDED, 0], &[]),
            Err("2 shared libraries"),
        );
        check(&image(&[(1, 0, 0)], &[], &[1, SHT_SYMTAB]), Err("symbol table"));
        // A static position-independent file has a dynamic section that needs nothing.
        check(
            &image(&[(PT_DYNAMIC, 512, 64)], &[14, DT_NULL, DT_NEEDED, 0], &[1, 3]),
            Ok(()),
        );
        check(&image(&[(1, 0, 0)], &[], &[1]), Ok(()));
    }
}
