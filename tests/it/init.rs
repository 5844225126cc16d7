//! `ephemwork init`: what it recognises, and that what it writes loads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ephemwork::cli::init::{Init, run};
use ephemwork::config;
use ephemwork::error::{Error, Exit};
use ephemwork::host::Host;

fn init(directory: &Path, stdout: bool, json: bool) -> Result<String, Error> {
    let host = Host {
        executable: PathBuf::from("ephemwork"),
        program: "ephemwork".to_owned(),
        arguments: Vec::new(),
        environment: BTreeMap::new(),
        directory: directory.to_owned(),
        stdout_is_terminal: false,
        stderr_is_terminal: false,
    };
    run(&host, &Init { stdout, json })
}

/// A project called `shop` with these files.
fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("shop");
    fs::create_dir(&root).unwrap();
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    (parent, root)
}

/// `name port directory: run_command` of every service, by name.
fn services(root: &Path) -> Vec<String> {
    let file = root.join(config::FILE);
    let text = fs::read_to_string(&file).unwrap();
    let config = config::parse(&text, &file).unwrap_or_else(|mistakes| panic!("{}", config::render(&mistakes, &text, &file)));
    let shown = |(name, service): (&ephemwork::name::Service, &config::ServiceConfig)| {
        let directory = service.working_directory.strip_prefix(root).unwrap().display().to_string();
        let run = service.run_command.as_deref().unwrap_or("");
        let build = service
            .build_command
            .as_ref()
            .map(|build| format!("{build} && "))
            .unwrap_or_default();
        let protocol = if service.protocol == config::Protocol::H2c {
            " h2c"
        } else {
            ""
        };
        format!("{name} {}{protocol} {directory}: {build}{run}", service.port)
    };
    config.services.iter().map(shown).collect()
}

#[test]
fn what_a_project_has() {
    let check = |files: &[(&str, &str)], expected: &[&str]| {
        let (_parent, root) = project(files);
        let told = init(&root, false, false).unwrap();
        assert_eq!(services(&root), expected, "{files:?}\n{told}");
        match expected {
            [] => assert!(told.contains("No service was recognised"), "{told}"),
            _ => assert!(told.contains("Next: read it, then run  ephemwork up "), "{told}"),
        }
    };
    check(&[], &[]);
    // package.json
    check(
        &[("package.json", r#"{"name": "@acme/web-shop", "scripts": {"dev": "vite"}}"#)],
        &["web-shop 5173 : npm run dev"],
    );
    check(
        &[
            ("package.json", r#"{"scripts": {"start": "next dev -p 4000"}}"#),
            ("yarn.lock", ""),
        ],
        &["shop 4000 : yarn run start"],
    );
    check(
        &[
            (
                "package.json",
                r#"{"scripts": {"serve": "node ."}, "dependencies": {"express": "5"}}"#,
            ),
            ("pnpm-lock.yaml", ""),
        ],
        &["shop 3000 : pnpm run serve"],
    );
    check(
        &[("package.json", r#"{"scripts": {"dev": "webpack serve"}}"#), ("bun.lock", "")],
        &["shop 8080 : bun run dev"],
    );
    check(
        &[(
            "package.json",
            r#"{"scripts": {"dev": "vite \"a\\b\" "}, "name": "日本 x\"]\n[tunnel]"}"#,
        )],
        &["x-tunnel 5173 : npm run dev"],
    );
    check(&[("package.json", r#"{"scripts": {"test": "vite"}}"#)], &[]);
    check(&[("package.json", "{")], &[]);
    // Python
    check(
        &[
            ("pyproject.toml", "[project]\nname = \"orders\"\ndependencies = [\"fastapi\"]"),
            ("uv.lock", ""),
            ("app/main.py", "from fastapi import FastAPI\nservice = FastAPI()"),
        ],
        &["orders 8000 : uv sync && uv run uvicorn app.main:service --port 8000 --reload"],
    );
    check(
        &[("requirements.txt", "Flask==3\n"), ("app.py", "app = Flask(__name__)")],
        &["shop 5000 : flask --app app:app run --port 5000 --debug"],
    );
    check(
        &[("requirements.txt", "Django\n"), ("manage.py", "")],
        &["shop 8000 : python manage.py runserver 8000"],
    );
    check(
        &[
            (
                "pyproject.toml",
                "[tool.poetry]\nname = 'a b'\n[tool.poetry.dependencies]\nuvicorn = '*'",
            ),
            ("poetry.lock", ""),
            ("requirements.txt", "flask"),
        ],
        &["a-b 8000 : poetry install && poetry run uvicorn main:app --port 8000 --reload"],
    );
    check(&[("pyproject.toml", "[project]\nname = 'tool'")], &[]);
    // Rust and Go
    check(
        &[
            ("Cargo.toml", "[package]\nname = \"ledger\"\n[dependencies]\naxum = \"0.8\""),
            ("src/main.rs", ""),
        ],
        &["ledger 3000 : cargo build && cargo run"],
    );
    check(
        &[(
            "Cargo.toml",
            "[package]\nname = \"l\"\n[dependencies]\ntonic.workspace = true",
        )],
        &["l 50051 h2c : cargo build && cargo run"],
    );
    check(&[("Cargo.toml", "[package]\nname = \"l\""), ("src/lib.rs", "")], &[]);
    check(&[("Cargo.toml", "[workspace]\nmembers = ['x']")], &[]);
    check(
        &[("go.mod", "module example.com/acme/billing/v2\n\ngo 1.24\n")],
        &["billing 8080 : go run ."],
    );
    // Procfile
    check(
        &[
            (
                "Procfile",
                "# ours\nweb: gunicorn app:app -b 0.0.0.0:8001\nworker: celery\napi: bin/api --port=$PORT\nrelease: migrate\nadmin: bundle exec rails s -p 3001\n",
            ),
            ("package.json", r#"{"scripts": {"dev": "vite"}}"#),
        ],
        &[
            "admin 3001 : bundle exec rails s -p 3001",
            "api 5000 : bin/api --port=$PORT",
            "web 8001 : gunicorn app:app -b 0.0.0.0:8001",
        ],
    );
    // compose files
    check(
        &[(
            "compose.yaml",
            "services:\n  api:\n    build: .\n    ports: ['8000:80']\n  db:\n    image: postgres\n",
        )],
        &["api 8000 : docker compose up --build --no-log-prefix api"],
    );
    check(
        &[
            (
                "docker-compose.yml",
                "services:\n  front:\n    build: ./web\n    ports:\n      - 80:4000\n",
            ),
            (
                "web/package.json",
                r#"{"name": "front", "scripts": {"dev": "node server.js"}}"#,
            ),
        ],
        &["front 4000 web: npm run dev"],
    );
    // Several in one repository: names and ports do not collide, what is certain keeps its port.
    check(
        &[
            (
                "package.json",
                r#"{"private": true, "workspaces": ["apps/*"], "scripts": {"dev": "turbo dev"}}"#,
            ),
            ("apps/web/package.json", r#"{"name": "app", "scripts": {"dev": "next dev"}}"#),
            (
                "apps/docs/package.json",
                r#"{"name": "app", "scripts": {"dev": "next dev --port 3000"}}"#,
            ),
            ("services/api/go.mod", "module api\n"),
            (
                "services/edge/package.json",
                r#"{"scripts": {"start": "node . --port 7070"}}"#,
            ),
            ("node_modules/x/package.json", r#"{"scripts": {"dev": "vite"}}"#),
            (".hidden/package.json", r#"{"scripts": {"dev": "vite"}}"#),
        ],
        &[
            "api 8080 services/api: go run .",
            "app 3000 apps/docs: npm run dev",
            "app-2 3001 apps/web: npm run dev",
            "edge 7071 services/edge: npm run start",
        ],
    );
}

#[test]
fn never_over_a_file() {
    let (_parent, root) = project(&[("ephemwork.toml", "# mine"), ("go.mod", "module x")]);
    let refused = init(&root, false, false).unwrap_err();
    assert_eq!(refused.exit, Exit::Config);
    assert!(
        refused.what.ends_with("ephemwork.toml exists already; nothing was written"),
        "{refused}"
    );
    assert_eq!(fs::read_to_string(root.join("ephemwork.toml")).unwrap(), "# mine");
    assert!(init(&root, true, false).unwrap().contains("[service.x]"));
    assert_eq!(fs::read_to_string(root.join("ephemwork.toml")).unwrap(), "# mine");

    // A link that leads nowhere is somebody's plan too.
    fs::remove_file(root.join("ephemwork.toml")).unwrap();
    std::os::unix::fs::symlink(root.join("elsewhere.toml"), root.join("ephemwork.toml")).unwrap();
    assert_eq!(init(&root, false, false).unwrap_err().exit, Exit::Config);
    assert!(!root.join("elsewhere.toml").exists());
}

#[test]
fn a_file_above_is_named() {
    let (_parent, root) = project(&[("ephemwork.toml", ""), ("api/go.mod", "module x")]);
    let told = init(&root.join("api"), false, false).unwrap();
    assert!(told.contains("counts instead of"), "{told}");
    assert!(root.join("api/ephemwork.toml").exists());
}

#[test]
fn as_json() {
    let (_parent, root) = project(&[("go.mod", "module x"), ("a/package.json", "{}")]);
    let told: serde_json::Value = serde_json::from_str(&init(&root, false, true).unwrap()).unwrap();
    assert_eq!(told["written"], true);
    assert_eq!(told["services"][0]["name"], "x");
    assert_eq!(told["services"][0]["port_guessed"], true);
    assert_eq!(told["left_out"][0], "a/package.json: it has no dev, start or serve script");
    assert_eq!(told["text"], fs::read_to_string(root.join("ephemwork.toml")).unwrap());
}

#[test]
fn what_is_guessed_is_said() {
    for (requirement, said) in [
        ("uvicorn", "main:app is a guess"),
        ("flask", "app:app is a guess"),
        ("uvicorn-with-app", ""),
    ] {
        let mut files = vec![("requirements.txt", requirement)];
        if said.is_empty() {
            files.push(("main.py", "app = FastAPI()\n"));
        }
        let (_parent, root) = project(&files);
        let told = init(&root, false, false).unwrap();
        let text = fs::read_to_string(root.join("ephemwork.toml")).unwrap();
        for shown in [told, text] {
            match said {
                "" => assert!(shown.contains("main:app") && !shown.contains("a guess"), "{shown}"),
                said => assert!(shown.contains(said), "{shown}"),
            }
        }
    }
}
