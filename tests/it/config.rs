//! ephemwork.toml: what is refused, where and with which words; what is accepted.
//!
//! Each case runs through the public parser; `through_the_executable` shows that `ephemwork up` prints the same and exits with 3.

use std::path::Path;
use std::process::{Command, Stdio};

use ephemwork::config::{self, Config, Table};
use ephemwork::fuzzing;
use proptest::prelude::*;

use crate::config_cases::{CASES, KNOWN};

const FILE: &str = "/w/shop/ephemwork.toml";

fn load(text: &str) -> Result<Config, Vec<String>> {
    config::parse(text, Path::new(FILE)).map_err(|mistakes| {
        let shown = |mistake: &config::Mistake| {
            let hint = mistake.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("{}:{}: {}{hint}", mistake.line, mistake.column, mistake.what)
        };
        mistakes.iter().map(shown).collect()
    })
}

#[test]
fn every_mistake_is_named_where_it_stands() {
    for (text, expected) in CASES {
        let expected: Vec<String> = expected
            .iter()
            .map(|line| line.replace("; …", &format!("; {KNOWN}")))
            .collect();
        let found = load(text).expect_err(text);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn through_the_executable() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ephemwork.toml");
    for (text, expected) in CASES {
        std::fs::write(&file, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_ephemwork"))
            .args(["up", "api"])
            .current_dir(directory.path())
            .env("EPHEMWORK_HOME", directory.path().join("home"))
            .env("EPHEMWORK_USER", "alice")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{text}\n{told}");
        let found: Vec<&str> = told
            .lines()
            .filter_map(|line| line.split_once("ephemwork.toml:"))
            .map(|(_, line)| line)
            .collect();
        // The first is the sentence that says how many there are.
        let found = found
            .iter()
            .copied()
            .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
            .collect::<Vec<_>>();
        let expected: Vec<String> = expected
            .iter()
            .map(|line| line.replace("; …", &format!("; {KNOWN}")))
            .collect();
        assert_eq!(found, expected, "{text}\n{told}");
    }
}

#[test]
fn accepted() {
    let check = |text: &str, fits: fn(&Config) -> bool| {
        let config = load(text).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes:?}"));
        assert!(fits(&config), "{text}\n{config:?}");
    };
    fn api(config: &Config) -> &config::ServiceConfig {
        config
            .services
            .iter()
            .find(|(name, _)| name.as_str() == "api")
            .expect("api")
            .1
    }
    check("", |config| {
        config.services.is_empty() && config.tunnel.kind == config::TunnelKind::Local
    });
    check("[tunnel]\n[service]\n", |config| config.services.is_empty());
    check("\u{feff}[service.api]\r\nport = 8000\r\n", |config| api(config).port == 8000);
    check("service.api.port = 0x1F90\nservice.api.env.A = ''", |config| {
        api(config).port == 8080 && api(config).env["A"].is_empty()
    });
    check("service = { api = { port = 1, protocol = 'h2c' } }", |config| {
        api(config).protocol == config::Protocol::H2c
    });
    check("[service.api]\nport = 1\nhost_header = 'shop.localhost:8080'", |config| {
        api(config).host_header == config::HostHeader::Value("shop.localhost:8080".to_owned())
    });
    check("[service.'Api.v2_x-1']\nport = 65535", |config| config.services.len() == 1);
    check("[tunnel]\nlisten = 'localhost:8080'", |config| {
        config.tunnel.listen.to_string() == "127.0.0.1:8080"
    });
    check("[tunnel]\nlisten = '[::1]:8080'", |config| {
        config.tunnel.listen.to_string() == "[::1]:8080"
    });
    check("[tunnel]\nlisten = '127.0.0.2:1'\n[service.api]\nport = 7070", |config| {
        api(config).port == 7070
    });
    check("[tunnel]\ntype = 'ec2'\n[service.api]\nport = 7070", |config| {
        api(config).port == 7070
    });
    check(
        "[tunnel]\ntype = 'local'\nregion = 'us-gov-west-1'\ninstance_type = 'u-6tb1.56xlarge'",
        |config| {
            config.tunnel.kind == config::TunnelKind::Local
                && config.tunnel.aws.instance_type.as_deref() == Some("u-6tb1.56xlarge")
        },
    );
    check(
        "[tunnel]\ntype = 'ec2'\nexpected_vpc_id = 'vpc-0a1b2c3d'\n[bastion]\nbastion_binary_s3_uri = 's3://b.1/k'\neice = true",
        |config| {
            config.tunnel.aws.expected_vpc_id.as_deref() == Some("vpc-0a1b2c3d")
                && config.bastion.eice == Some(true)
                && config
                    .bastion
                    .binary
                    .as_ref()
                    .is_some_and(|binary| binary.to_string() == "s3://b.1/k")
        },
    );
    check("[tunnel]\nstaging_url = 'https://Staging.example.com:8443/'", |config| {
        config.tunnel.staging_url.as_ref().map(ToString::to_string).as_deref() == Some("https://staging.example.com:8443")
    });
    check("[tunnel]\nproject_name = 'a-1'", |config| config.tunnel.project_name == "a-1");
    check(
        "[service.api]\nport = 1\nworking_directory = '../api'\nenv_file = '/etc/x.env'",
        |config| {
            api(config).working_directory == Path::new("/w/shop/../api")
                && api(config).env_file.as_deref() == Some(Path::new("/etc/x.env"))
        },
    );
    check(
        "[service.api]\nport = 1\nhealth_timeout_seconds = 1\nstop_timeout_seconds = 3600",
        |config| api(config).health_timeout.as_secs() == 1 && api(config).stop_timeout.as_secs() == 3600,
    );
    check("[service.api]\nport = 1\nrun_command = '''\nset -e\n./run\n'''", |config| {
        api(config).run_command.as_deref() == Some("set -e\n./run\n")
    });
}

#[test]
fn a_file_that_is_no_config_is_refused_early() {
    let found = load(&"#".repeat(config::MAX_BYTES + 1)).expect_err("too long");
    assert_eq!(found, ["1:1: the file is 1048577 bytes long; at most 1048576 are read"]);
}

#[test]
fn the_full_example_loads_and_has_every_key() {
    let text = include_str!("../../assets/ephemwork.toml");
    let file = Path::new("assets/ephemwork.toml");
    let config = config::parse(text, file).unwrap_or_else(|mistakes| panic!("{}", config::render(&mistakes, text, file)));
    assert_eq!(config.services.len(), 2);
    for table in [Table::Root, Table::Tunnel, Table::Bastion, Table::Service] {
        for key in config::known(table) {
            let names = |line: &str| {
                let header = line.trim_matches(['[', ']']).split('.').any(|part| part == *key);
                line.strip_prefix(key).is_some_and(|rest| rest.starts_with(" = ")) || line.starts_with('[') && header
            };
            assert!(
                text.lines().any(names),
                "assets/ephemwork.toml does not have {key:?} of {table:?}"
            );
        }
    }
}

/// What an ephemwork.toml is made of, and what breaks it.
fn fragment() -> impl Strategy<Value = String> {
    let words = [
        "[tunnel]",
        "[service.api]",
        "[service.",
        "[[service]]",
        "[service.\"日本\"]",
        "port",
        "env",
        "type",
        "listen",
        "staging_url",
        "region",
        "project_name",
        "[bastion]",
        "listener_arn",
        "bastion_binary_s3_uri",
        "eice",
        "\"s3://a/b\"",
        "health_check_path",
        "working_directory",
        "prot",
        " = ",
        "=",
        ".",
        "8000",
        "-1",
        "1e9",
        "0x",
        "true",
        "\"local\"",
        "\"ec2\"",
        "\"http://a:b\"",
        "\"127.0.0.1:0\"",
        "\"",
        "'",
        "\"\"\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        "#",
        "\n",
        "\r\n",
        "\r",
        "\t",
        " ",
        "\u{feff}",
        "\0",
        "é",
        "日",
        "2020-01-01",
        "\\u00e9",
    ];
    prop_oneof![9 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn a_mistake_lies_inside_the_text(fragments in prop::collection::vec(fragment(), 0..60)) {
        fuzzing::config(fragments.concat().as_bytes());
    }

    #[test]
    fn a_mistake_lies_inside_any_text(text in any::<String>()) {
        fuzzing::config(text.as_bytes());
    }

    #[test]
    fn a_damaged_example_never_panics(cut in any::<prop::sample::Index>(), what in fragment()) {
        let text = include_str!("../../assets/ephemwork.toml");
        let at = cut.index(text.len());
        let at = (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        fuzzing::config(format!("{}{what}{}", &text[..at], &text[at..]).as_bytes());
    }
}
