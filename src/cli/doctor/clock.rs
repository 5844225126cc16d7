//! How far this machine's clock is from AWS's, whose signatures carry the time.

use super::Grade;

/// What a whole second in a Date header and the answer's way make look like a difference, in seconds.
const UNSURE: u64 = 2;

/// From here on it is worth a repair, in seconds: far below the five minutes behind which AWS refuses signatures.
const FAR: u64 = 60;

const REPAIR: &str = "set it by the network: timedatectl set-ntp true (Linux), sudo sntp -sS time.apple.com (macOS); ephemwork itself corrects \
                      its signatures, other programs' are refused when it is five minutes";

/// The grade, the sentence and the repair, from both clocks in seconds since the epoch.
pub(super) fn check(aws: Option<u64>, here: u64) -> (Grade, String, Option<String>) {
    let Some(aws) = aws else {
        // It is the client that corrects what is wrong.
        return (Grade::Ok, "AWS accepts this machine's signatures".to_owned(), None);
    };
    let (off, side) = (here.abs_diff(aws), if here > aws { "ahead of" } else { "behind" });
    if off <= UNSURE {
        return (Grade::Ok, format!("within {UNSURE} s of AWS's"), None);
    }
    let what = format!("{off} s {side} AWS's");
    match off < FAR {
        true => (Grade::Ok, what, None),
        false => (Grade::Warn, what, Some(REPAIR.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        let check = |aws: Option<u64>, here: u64, grade: Grade, what: &str| {
            let (found, said, repair) = check(aws, here);
            assert_eq!((found, said.as_str()), (grade, what));
            assert_eq!(repair.is_some(), grade == Grade::Warn);
        };
        check(None, 1000, Grade::Ok, "AWS accepts this machine's signatures");
        check(Some(1001), 1000, Grade::Ok, "within 2 s of AWS's");
        check(Some(998), 1000, Grade::Ok, "within 2 s of AWS's");
        check(Some(997), 1000, Grade::Ok, "3 s ahead of AWS's");
        check(Some(1059), 1000, Grade::Ok, "59 s behind AWS's");
        check(Some(940), 1000, Grade::Warn, "60 s ahead of AWS's");
        check(Some(4600), 1000, Grade::Warn, "3600 s behind AWS's");
    }
}
