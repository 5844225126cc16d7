//! Files that are wrong, and what is said about each.

/// A case of `CASES`: the file's text and its mistakes as `line:column: what; hint`.
pub(crate) type Case = (&'static str, &'static [&'static str]);

/// What stands for the `…` at the end of an expected mistake.
pub(crate) const KNOWN: &str = "known are port, bootstrap_command, build_command, run_command, health_check_path, protocol, host_header, env, env_file, \
                     working_directory, health_timeout_seconds, stop_timeout_seconds";

/// Each with all of its mistakes, in their order.
pub(crate) const CASES: &[Case] = &[
    // Keys and tables.
    (
        "[service.api]\nprot = 8000",
        &["2:1: unknown key \"prot\" in [service.api]; did you mean \"port\"?"],
    ),
    (
        "[service.api]\nport = 8000\nhealth-check-path = \"/\"\nrun = \"x\"\nenvironment = {}\ndate = 1",
        &[
            "3:1: unknown key \"health-check-path\" in [service.api]; did you mean \"health_check_path\"?",
            "4:1: unknown key \"run\" in [service.api]; did you mean \"run_command\"?",
            "5:1: unknown table \"environment\" in [service.api]; did you mean \"env\"?",
            "6:1: unknown key \"date\" in [service.api]; …",
        ],
    ),
    (
        "[services.api]\nport = 8000",
        &["1:2: unknown table [services]; did you mean \"service\"?"],
    ),
    (
        "[tunel]\ntype = \"local\"",
        &["1:2: unknown table [tunel]; did you mean \"tunnel\"?"],
    ),
    (
        "[aws]\nx = 1",
        &["1:2: unknown table [aws]; known are tunnel, bastion, service"],
    ),
    (
        "port = 8000",
        &["1:1: unknown key \"port\" at the top of the file; it belongs in [service.NAME]"],
    ),
    (
        "[tunnel]\nhealth_check_path = \"/x\"",
        &["2:1: unknown key \"health_check_path\" in [tunnel]; it belongs in [service.NAME]"],
    ),
    (
        "[service]\nport = 8000",
        &["2:1: \"port\" stands in [service], which has only tables; write [service.NAME] above a service's keys"],
    ),
    (
        "[[service]]\nport = 8000",
        &["1:1: \"service\" must be a table, found a list; write [service.NAME]"],
    ),
    (
        "tunnel = \"local\"\nservice = 5",
        &[
            "1:10: \"tunnel\" must be a table, found the text \"local\"; write [tunnel]",
            "2:11: \"service\" must be a table, found the number 5; write [service.NAME]",
        ],
    ),
    // Services' names and ports.
    (
        "[service.\"front end\"]\nport = 8000",
        &["1:10: \"front end\" is not a service name: ' ' at position 6 is not allowed; use letters, digits, '.', '_' or '-'"],
    ),
    (
        "[service.\"\"]\nport = 8000",
        &["1:10: \"\" is not a service name: it is empty; use letters, digits, '.', '_' or '-'"],
    ),
    (
        "[service.\"a:b\"]\nport = 0\nbad = 1",
        &[
            "1:10: \"a:b\" is not a service name: ':' at position 2 is not allowed; use letters, digits, '.', '_' or '-'",
            "2:8: \"port\" in [service.\"a:b\"] must be a whole number from 1 to 65535, found 0",
            "3:1: unknown key \"bad\" in [service.\"a:b\"]; …",
        ],
    ),
    (
        "[service.api]\nrun_command = \"x\"",
        &["1:10: [service.api] has no \"port\"; add the port on which it listens, as in port = 8000"],
    ),
    (
        "[service.api]\nport = \"8000\"",
        &[
            "2:8: \"port\" in [service.api] must be a whole number from 1 to 65535, found the text \"8000\"; write port = 8000, without quotes",
        ],
    ),
    (
        "[service.a]\nport = 0\n[service.b]\nport = 65536\n[service.c]\nport = -1\n[service.d]\nport = 80.5\n[service.e]\nport = 99999999999999999999",
        &[
            "2:8: \"port\" in [service.a] must be a whole number from 1 to 65535, found 0",
            "4:8: \"port\" in [service.b] must be a whole number from 1 to 65535, found 65536",
            "6:8: \"port\" in [service.c] must be a whole number from 1 to 65535, found -1",
            "8:8: \"port\" in [service.d] must be a whole number from 1 to 65535, found the number 80.5",
            "10:8: \"port\" in [service.e] must be a whole number from 1 to 65535, found 99999999999999999999",
        ],
    ),
    (
        "[service.web]\nport = 8000\n[service.api]\nport = 8_000\n[service.x]\nport = 0x1F40",
        &[
            "4:8: port 8000 is already that of [service.web] (line 2); give each service its own",
            "6:8: port 8000 is already that of [service.web] (line 2); give each service its own",
        ],
    ),
    (
        "[service.web]\nport = 7070",
        &["2:8: port 7070 is where ephemwork itself listens (tunnel.listen, 127.0.0.1:7070); change one of them"],
    ),
    // Values of a service.
    (
        "[service.web]\nport = 8000\nrun_command = true\nbuild_command = [\"uv\", \"sync\"]\nbootstrap_command = \" \"\nenv_file = \"\"",
        &[
            "3:15: \"run_command\" in [service.web] must be text, found true; write it in quotes, on one line",
            "4:17: \"build_command\" in [service.web] must be text, found a list; write it in quotes, on one line",
            "5:21: \"bootstrap_command\" in [service.web] is empty; leave the key out instead",
            "6:12: \"env_file\" in [service.web] is empty; leave the key out instead",
        ],
    ),
    (
        "[service.web]\nport = 8000\nrun_command = \"a\\u0000b\"",
        &["3:15: \"run_command\" in [service.web] contains a NUL character"],
    ),
    (
        "[service.web]\nport = 8000\nhealth_check_path = \"health\"",
        &[
            "3:21: \"health_check_path\" in [service.web] must start with '/', found \"health\"; write health_check_path = \"/health\"",
        ],
    ),
    (
        "[service.web]\nport = 8000\nhealth_check_path = \"http://localhost/x\"",
        &["3:21: \"health_check_path\" in [service.web] must start with '/', found \"http://localhost/x\""],
    ),
    (
        "[service.web]\nport = 8000\nhealth_check_path = \"/a b\"",
        &[
            "3:21: ' ' in \"health_check_path\" of [service.web] cannot stand in a request; write it percent-encoded, or leave it out",
        ],
    ),
    (
        "[service.web]\nport = 8000\nprotocol = \"grpc\"",
        &["3:12: \"protocol\" in [service.web] must be \"http1\" or \"h2c\", found \"grpc\"; did you mean \"h2c\"?"],
    ),
    (
        "[service.web]\nport = 8000\nhost_header = \"a b\"",
        &[
            "3:15: \"host_header\" in [service.web] must be \"keep\", \"local\" or a host name, found the text \"a b\"; write host_header = \"local\", or as in host_header = \"shop.localhost\"",
        ],
    ),
    (
        "[service.web]\nport = 8000\nhost_header = \"Keep\"\n[service.api]\nport = 8001\nhost_header = \"a:b:c\"\n[service.z]\nport = 8002\nhost_header = \"http://x\"",
        &[
            "3:15: \"host_header\" in [service.web] must be \"keep\", \"local\" or a host name, found the text \"Keep\"; did you mean \"keep\"?",
            "6:15: \"host_header\" in [service.api] must be \"keep\", \"local\" or a host name, found the text \"a:b:c\"; write host_header = \"local\", or as in host_header = \"shop.localhost\"",
            "9:15: \"host_header\" in [service.z] must be \"keep\", \"local\" or a host name, found the text \"http://x\"; write host_header = \"local\", or as in host_header = \"shop.localhost\"",
        ],
    ),
    (
        "[service.web]\nport = 8000\nhealth_timeout_seconds = 0\nstop_timeout_seconds = 3601",
        &[
            "3:26: \"health_timeout_seconds\" in [service.web] must be a whole number from 1 to 3600, found 0",
            "4:24: \"stop_timeout_seconds\" in [service.web] must be a whole number from 1 to 3600, found 3601",
        ],
    ),
    (
        "[service.web]\nport = 8000\nworking_directory = \"~/x\"",
        &[
            "3:21: '~' in \"working_directory\" of [service.web] is not expanded; write a path from this file's directory, or from /",
        ],
    ),
    (
        "[service.web]\nport = 8000\nenv = [\"A=1\"]",
        &[
            "3:7: \"env\" must be a table, found a list; write env = { NAME = \"value\" }, or a table of its own as in [service.NAME.env]",
        ],
    ),
    (
        "[service.web]\nport = 8000\n[service.web.env]\n\"A B\" = \"x\"\nPORT = \"1\"\nN = 5\n\"\" = \"x\"\n1A = \"y\"\nEPHEMWORK_TAG = \"a:b\"\nZ = \"\\u0000\"",
        &[
            "4:1: ' ' cannot stand in the variable's name \"A B\"; use letters, digits and '_', no digit first",
            "5:1: PORT in env of [service.web] is set by ephemwork itself; take the line out",
            "6:5: \"N\" in env of [service.web] must be text, found the number 5; write its value in quotes",
            "7:1: a variable's name is empty; use letters, digits and '_', no digit first",
            "8:1: '1' cannot stand in the variable's name \"1A\"; use letters, digits and '_', no digit first",
            "9:1: EPHEMWORK_TAG in env of [service.web] is set by ephemwork itself; take the line out",
            "10:5: the value of Z contains a NUL character",
        ],
    ),
    // The tunnel.
    (
        "[tunnel]\ntype = \"ec\"",
        &["2:8: \"type\" in [tunnel] must be \"local\" or \"ec2\", found \"ec\"; did you mean \"ec2\"?"],
    ),
    (
        "[tunnel]\ntype = \"ec2\"\nregion = \"us-east1\"\ninstance_type = \"t4g\"",
        &[
            "3:10: \"region\" in [tunnel] must look like \"eu-west-1\", found \"us-east1\"",
            "4:17: \"instance_type\" in [tunnel] must look like \"t4g.nano\", found \"t4g\"",
        ],
    ),
    (
        "[tunnel]\nregion = \"us-east-1\"",
        &[
            "2:1: \"region\" in [tunnel] needs type = \"ec2\", and there is no type; add type = \"ec2\", or type = \"local\" to keep it for later",
        ],
    ),
    (
        "[tunnel]\nproject_name = \"My Shop\"",
        &[
            "2:16: \"project_name\" in [tunnel] must be lower case letters, digits and single '-' between them, at most 32, found \"My Shop\"; \"my-shop\" would do",
        ],
    ),
    (
        "[tunnel]\nlisten = \"0.0.0.0:7070\"",
        &[
            "2:10: \"listen\" in [tunnel] must be a loopback address, so that only this machine reaches it, found \"0.0.0.0:7070\"; write it as in listen = \"127.0.0.1:7070\"",
        ],
    ),
    (
        "[tunnel]\nlisten = \"127.0.0.1\"",
        &[
            "2:10: \"listen\" in [tunnel] must be an address with a port, found \"127.0.0.1\"; write it as in listen = \"127.0.0.1:7070\"",
        ],
    ),
    (
        "[tunnel]\nlisten = \"[::1]:0\"",
        &["2:10: \"listen\" in [tunnel] needs a port from 1 to 65535, found 0; write it as in listen = \"127.0.0.1:7070\""],
    ),
    (
        "[tunnel]\nlisten = 7070",
        &["2:10: \"listen\" in [tunnel] must be text, found the number 7070; write it in quotes, on one line"],
    ),
    (
        "[tunnel]\nstaging_url = \"https://staging.example.com/v1\"",
        &[
            "2:15: \"staging_url\" in [tunnel] is wrong: \"/v1\" is too much: requests keep their own path and query; write it as in staging_url = \"https://staging.example.com\"",
        ],
    ),
    (
        "[tunnel]\nstaging_url = \"staging.example.com\"",
        &[
            "2:15: \"staging_url\" in [tunnel] is wrong: it must begin with http:// or https://; write it as in staging_url = \"https://staging.example.com\"",
        ],
    ),
    (
        "[tunnel]\nstaging_url = \"http://localhost:7070\"",
        &[
            "2:15: \"staging_url\" in [tunnel] is where ephemwork itself listens (127.0.0.1:7070); give the staging environment's address",
        ],
    ),
    // What is in AWS.
    (
        "[tunnel]\ntype = \"ec2\"\nexpected_vpc_id = \"subnet-0123456789abcdef0\"\nvpc = \"x\"",
        &[
            "3:19: \"expected_vpc_id\" in [tunnel] is wrong: it begins with \"vpc-\", found \"subnet-0123456789abcdef0\"; write it as in expected_vpc_id = \"vpc-0123456789abcdef0\"",
            "4:1: unknown key \"vpc\" in [tunnel]; known are type, region, instance_type, expected_vpc_id, transport, host, port, document, payload_bytes, lanes, host_key, project_name, listen, staging_url",
        ],
    ),
    (
        "[tunnel]\ntype = \"ec2\"\ntransport = \"smm\"\ndocument = \"My Document\"\nlanes = 5\npayload_bytes = 64",
        &[
            "3:13: \"transport\" in [tunnel] must be \"auto\" or \"ssm\" or \"eice\" or \"tcp\", found \"smm\"; did you mean \"ssm\"?",
            "4:12: \"document\" in [tunnel] must look like \"AWS-StartSSHSession\", found \"My Document\"",
            "5:9: \"lanes\" in [tunnel] must be a whole number from 1 to 4, found 5",
            "6:17: \"payload_bytes\" in [tunnel] must be a whole number from 128 to 16384, found 64",
        ],
    ),
    (
        "[tunnel]\ntype = \"ec2\"\ntransport = [\"ssm\", \"ecie\", 1, \"ssm\"]\nlanes = \"many\"",
        &[
            "3:21: \"transport\" in [tunnel] is a list of \"ssm\", \"eice\" and \"tcp\", found the text \"ecie\"; did you mean \"eice\"?",
            "3:29: \"transport\" in [tunnel] is a list of \"ssm\", \"eice\" and \"tcp\", found the number 1; write transport = \"auto\", one of \"ssm\", \"eice\" and \"tcp\", or a list of them in the order to try",
            "3:32: \"ssm\" stands twice in \"transport\" of [tunnel]",
            "4:9: \"lanes\" in [tunnel] must be \"auto\" or a whole number from 1 to 4, found the text \"many\"",
        ],
    ),
    (
        "[tunnel]\ntype = \"ec2\"\ntransport = []",
        &[
            "3:13: \"transport\" in [tunnel] is an empty list; write transport = \"auto\", one of \"ssm\", \"eice\" and \"tcp\", or a list of them in the order to try",
        ],
    ),
    (
        "[tunnel]\ntype = \"ec2\"\ntransport = \"tcp\"",
        &[
            "3:13: \"transport\" in [tunnel] has \"tcp\", which needs a \"host\"; add the bastion's name or address, as in host = \"10.0.0.5\"",
        ],
    ),
    (
        "[tunnel]\ntype = \"ec2\"\nhost = \"10.0.0.5:2222\"\nport = 0\nhost_key = \"accept_new\"",
        &[
            "3:8: \"host\" in [tunnel] must be a host's name or address, found \"10.0.0.5:2222\"; write host = \"10.0.0.5\" and port = 2222",
            "4:8: \"port\" in [tunnel] must be a whole number from 1 to 65535, found 0",
            "5:12: \"host_key\" in [tunnel] must be \"parameter\", \"accept-new\" or an ed25519 key, found the text \"accept_new\"; did you mean \"accept-new\"?",
        ],
    ),
    (
        "[tunnel]\ntype = \"ec2\"\nhost = \"ssh://bastion\"\nhost_key = \"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC\"",
        &[
            "3:8: \"host\" in [tunnel] must be a host's name or address, found \"ssh://bastion\"; write it as in host = \"bastion.example.internal\"",
            "4:12: \"host_key\" in [tunnel] must be \"parameter\", \"accept-new\" or an ed25519 key, found the text \"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC\"; a key is written as the bastion's host_key.pub has it: host_key = \"ssh-ed25519 AAAA…\"",
        ],
    ),
    (
        "[tunnel]\ntransport = \"ssm\"",
        &[
            "2:1: \"transport\" in [tunnel] needs type = \"ec2\", and there is no type; add type = \"ec2\", or type = \"local\" to keep it for later",
        ],
    ),
    (
        "[tunnel]\nexpected_vpc_id = \"vpc-01234567\"",
        &[
            "2:1: \"expected_vpc_id\" in [tunnel] needs type = \"ec2\", and there is no type; add type = \"ec2\", or type = \"local\" to keep it for later",
        ],
    ),
    (
        "[tunnel]\nsubnet_id = \"subnet-01234567\"",
        &["2:1: unknown key \"subnet_id\" in [tunnel]; it belongs in [bastion]"],
    ),
    (
        "bastion = true",
        &["1:11: \"bastion\" must be a table, found true; write [bastion]"],
    ),
    (
        "[bastion]\nami = \"ami-01234567\"\nami_id = \"ami-xyz\"\nsubnet_id = 7\nalb_security_group_id = \"\"\neice = \"yes\"\nexpected_account_id = 123456789012\nregion = \"eu-west-1\"",
        &[
            "2:1: unknown key \"ami\" in [bastion]; did you mean \"ami_id\"?",
            "3:10: \"ami_id\" in [bastion] is wrong: behind \"ami-\" come 8 to 17 digits and letters from a to f, found \"ami-xyz\"; write it as in ami_id = \"ami-0123456789abcdef0\"",
            "4:13: \"subnet_id\" in [bastion] must be text, found the number 7; write it in quotes, on one line",
            "5:25: \"alb_security_group_id\" in [bastion] is empty; leave the key out instead",
            "6:8: \"eice\" in [bastion] must be true or false, found the text \"yes\"; write it without quotes",
            "7:23: \"expected_account_id\" in [bastion] must be text, found the number 123456789012; write it in quotes, on one line",
            "8:1: unknown key \"region\" in [bastion]; it belongs in [tunnel]",
        ],
    ),
    (
        "[bastion]\nexpected_account_id = \"1234\"\nbastion_binary_s3_uri = \"https://b.s3.amazonaws.com/x\"\nlistener_arn = \"arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/shop/50dc6c495c0c9188\"",
        &[
            "2:23: \"expected_account_id\" in [bastion] is wrong: an account's id has 12 digits, found \"1234\"; write it as in expected_account_id = \"123456789012\"",
            "3:25: \"bastion_binary_s3_uri\" in [bastion] is wrong: it begins with \"s3://\", found \"https://b.s3.amazonaws.com/x\"; write it as in bastion_binary_s3_uri = \"s3://my-bucket/ephemwork/0.1.0/ephemwork-aarch64-unknown-linux-musl\"",
            "4:16: \"listener_arn\" in [bastion] is wrong: it is the load balancer's own ARN, not its listener's; write it as in listener_arn = \"arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/my-alb/0123456789abcdef/fedcba9876543210\"",
        ],
    ),
    // Not TOML; what is wrong beside it is said in the same run.
    (
        "[service.api]\nport = \nrun_command = 5",
        &[
            "2:8: this is not TOML: a value is missing behind '='",
            "3:15: \"run_command\" in [service.api] must be text, found the number 5; write it in quotes, on one line",
        ],
    ),
    (
        "[service.api\nport = 8000\nbad = 1\n[service.web]\nport = 8000\nwrok = 1",
        &[
            "1:13: this is not TOML: the closing ']' is missing behind the table's name",
            "6:1: unknown key \"wrok\" in [service.web]; …",
        ],
    ),
    (
        "[service.api]\nport = 8000\nrun_command = \"uvicorn\nbuild_command = 'x\nhealth_check_path = \"health\"",
        &[
            "3:23: this is not TOML: the closing '\"' is missing",
            "4:19: this is not TOML: the closing \"'\" is missing",
            "5:21: \"health_check_path\" in [service.api] must start with '/', found \"health\"; write health_check_path = \"/health\"",
        ],
    ),
    (
        "[service.api]\nport = 8000\nport = 8001",
        &["3:1: this is not TOML: \"port\" stands twice"],
    ),
    (
        "[service.api]\nport = 8000\n[service.api]\nrun_command = \"x\"",
        &["3:10: this is not TOML: \"api\" stands twice"],
    ),
    (
        "[service.api]\nport: 8000",
        &["2:5: this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`"],
    ),
    (
        "[service.api]\nport 8000",
        &["2:6: this is not TOML: a key must be followed by '=' and its value"],
    ),
    (
        "[service.api]\nport = 8000\nrun_command = npm start",
        &["3:15: this is not TOML: text must stand in quotes: \"npm start\""],
    ),
    (
        "[service.api]\nport = 08000",
        &["2:8: this is not TOML: unexpected leading zero, expected nothing"],
    ),
    (
        "{\"service\": {}}",
        &["1:1: this is not TOML: invalid key-value pair, expected key"],
    ),
    // Columns count characters: behind a byte order mark, tabs, CRLF and letters of several bytes.
    (
        "\u{feff}bad = 1\r\n[service.api]\r\n\tprot = 1\r\nrun_command = \"日本 é\" # ä\r\nenv = { A = \"日本\", Ü = \"x\", \"ü\" = 1, B = 2 }\r\n",
        &[
            "1:1: unknown key \"bad\" at the top of the file; known are tunnel, bastion, service",
            "3:2: unknown key \"prot\" in [service.api]; did you mean \"port\"?",
            "5:19: this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`",
        ],
    ),
    (
        "[service.api]\nport = 1\nenv = { \"日本\" = \"x\", B = 2 }",
        &[
            "3:9: '日' cannot stand in the variable's name \"日本\"; use letters, digits and '_', no digit first",
            "3:25: \"B\" in env of [service.api] must be text, found the number 2; write its value in quotes",
        ],
    ),
];
