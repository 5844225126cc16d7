//! Properties of users, services and tags: what is parsed is printed as it was, and nothing outside the alphabet gets in.

use ephemwork::name::{BadName, MAX_LEN, Service, Tag, User};
use proptest::prelude::*;

fn of_user(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')
}

fn of_service(c: char) -> bool {
    of_user(c) || c.is_ascii_uppercase()
}

fn fits(text: &str, alphabet: fn(char) -> bool) -> bool {
    (1..=MAX_LEN).contains(&text.len()) && text.chars().all(alphabet)
}

/// Texts near a tag: most characters of the alphabet, now and then another.
fn near() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9._-]{0,70}",
        "[A-Za-z0-9._-]{0,70}",
        "[a-z0-9._:-]{0,20}",
        "[a-zA-Z \\t:é日\u{0}\u{7f}]{0,12}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn every_name_of_the_alphabet_comes_back(user in "[a-z0-9._-]{1,64}", service in "[A-Za-z0-9._-]{1,64}") {
        let user = User::parse(&user).unwrap();
        let service = Service::parse(&service).unwrap();
        let tag = Tag::new(user.clone(), service.clone());
        let text = tag.to_string();
        prop_assert_eq!(&text, &format!("{user}:{service}"));
        prop_assert_eq!(Tag::parse(&text), Ok(tag.clone()));
        let json = serde_json::to_string(&tag).unwrap();
        prop_assert_eq!(&json, &format!("\"{text}\""));
        prop_assert_eq!(serde_json::from_str::<Tag>(&json).unwrap(), tag);
    }

    #[test]
    fn names_are_exactly_those_of_the_alphabet(text in near()) {
        prop_assert_eq!(User::parse(&text).is_ok(), fits(&text, of_user));
        prop_assert_eq!(Service::parse(&text).is_ok(), fits(&text, of_service));
        if let Ok(user) = User::parse(&text) {
            prop_assert_eq!(user.as_str(), &text);
        }
        if let Ok(service) = Service::parse(&text) {
            prop_assert_eq!(service.to_string(), text);
        }
    }

    #[test]
    fn the_character_that_is_named_stands_there(text in near()) {
        for bad in [User::parse(&text).err(), Service::parse(&text).err()].into_iter().flatten() {
            match bad {
                BadName::Empty => prop_assert!(text.is_empty()),
                BadName::TooLong(len) => prop_assert!(len == text.len() && len > MAX_LEN),
                BadName::Character(c, at) | BadName::UpperCase(c, at) => {
                    prop_assert_eq!(text.chars().nth(at - 1), Some(c));
                    prop_assert!(!of_user(c));
                }
            }
            prop_assert!(!bad.to_string().is_empty());
        }
    }

    #[test]
    fn a_tag_is_a_user_a_colon_and_a_service(text in near()) {
        let expected = text.split_once(':').is_some_and(|(user, service)| fits(user, of_user) && fits(service, of_service));
        let found = Tag::parse(&text);
        prop_assert_eq!(found.is_ok(), expected);
        match found {
            Ok(tag) => prop_assert_eq!(tag.to_string(), text),
            Err(why) => prop_assert!(!why.to_string().is_empty()),
        }
    }
}
