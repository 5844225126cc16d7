//! Base64 as AWS's services mean it: the standard alphabet with padding (RFC 4648, section 4). User data and consoles need it.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes as text.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| chunk.get(index).copied().map_or(0, u32::from);
        let all = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let letter = ALPHABET[(all >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Text as bytes; white space counts for nothing. `None` for what is no base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let kept = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(&text);
    let mut bytes = Vec::with_capacity(kept.len() / 4 * 3);
    for chunk in kept.chunks(4) {
        let mut all: u32 = 0;
        for place in 0..4 {
            let value = match chunk.get(place) {
                Some(letter) => ALPHABET.iter().position(|one| one == letter)?,
                None => 0,
            };
            all = all << 6 | u32::try_from(value).ok()?;
        }
        if chunk.len() == 1 {
            return None;
        }
        bytes.extend(&all.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let check = |bytes: &str, text: &str| {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        };
        // RFC 4648, section 10.
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foob", "Zm9vYg==");
        check("fooba", "Zm9vYmE=");
        check("foobar", "Zm9vYmFy");
        assert_eq!(decode("Zm9v\nYg =="), Some(b"foob".to_vec()));
        for wrong in ["Z", "Zm9vY", "Zm9*", "é"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
