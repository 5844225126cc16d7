//! Which services a project has, from the text of its well-known files. Pure: a listing in, findings out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compose;

/// One directory: its path from where `init` runs (empty for that itself), and the texts of its files of [`INTERESTING`].
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// With `/` between its parts, on every system.
    pub path: String,
    /// By path below the directory.
    pub files: BTreeMap<String, String>,
}

/// What the directory walk reads; everything else is not looked at.
pub const INTERESTING: &[&str] = &[
    "package.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "bun.lockb",
    "pyproject.toml",
    "requirements.txt",
    "uv.lock",
    "poetry.lock",
    "manage.py",
    "main.py",
    "app.py",
    "wsgi.py",
    "asgi.py",
    "app/main.py",
    "app/__init__.py",
    "src/main.py",
    "Cargo.toml",
    "src/main.rs",
    "src/lib.rs",
    "go.mod",
    "main.go",
    "Procfile",
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];

/// A service that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is called where it was found; not yet a service name.
    pub name: String,
    /// [`Directory::path`] to run in.
    pub directory: String,
    /// Where it listens.
    pub port: u16,
    /// Whether something says so, or it is the framework's default.
    pub port_is_certain: bool,
    /// What to run before each start.
    pub build: Option<String>,
    /// What to run.
    pub run: String,
    /// `h2c` instead of HTTP/1.1.
    pub h2c: bool,
    /// The file and what in it was recognised.
    pub because: String,
}

/// Everything that was recognised, and a sentence for everything that was seen and left out.
pub fn detect(directories: &[Directory]) -> (Vec<Finding>, Vec<String>) {
    let (mut findings, mut notes) = (Vec::new(), Vec::new());
    for directory in directories {
        let at = |file: &str| {
            if directory.path.is_empty() {
                file.to_owned()
            } else {
                format!("{}/{file}", directory.path)
            }
        };
        let mut note = |file: &str, why: String| notes.push(format!("{}: {why}", at(file)));
        let mut add = |found: Result<Finding, Option<String>>, file: &str| match found {
            Ok(finding) => findings.push(Finding {
                because: format!("{}: {}", at(file), finding.because),
                ..finding
            }),
            Err(why) => why.into_iter().for_each(|why| note(file, why)),
        };
        if let Some(text) = directory.files.get("Procfile") {
            procfile(text, directory).into_iter().for_each(|found| add(found, "Procfile"));
            continue;
        }
        for (file, look) in [
            (
                "package.json",
                package_json as fn(&str, &Directory) -> Result<Finding, Option<String>>,
            ),
            ("pyproject.toml", python),
            ("requirements.txt", python),
            ("Cargo.toml", cargo_toml),
            ("go.mod", go_mod),
        ] {
            // A project with both of Python's files is one service.
            if file == "requirements.txt" && directory.files.contains_key("pyproject.toml") {
                continue;
            }
            if let Some(text) = directory.files.get(file) {
                add(look(text, directory), file);
            }
        }
    }
    for directory in directories {
        let file = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"]
            .into_iter()
            .find_map(|file| Some((file, directory.files.get(file)?)));
        if let Some((file, text)) = file {
            let (services, skipped) = compose::read(text);
            let at = join(&directory.path, file);
            notes.extend(skipped.into_iter().map(|why| format!("{at}: {why}")));
            services
                .into_iter()
                .for_each(|service| merge(&mut findings, service, &directory.path, &at));
        }
    }
    (findings, notes)
}

/// A compose service whose directory has a finding of its own only tells that one's port; another is run by compose.
fn merge(findings: &mut Vec<Finding>, service: compose::ComposeService, path: &str, file: &str) {
    let context = join(path, &service.context);
    if let Some(known) = findings.iter_mut().find(|finding| finding.directory == context) {
        // A port below 1024 (80 in most images) is the container's business.
        if !known.port_is_certain && service.target >= 1024 {
            known.port = service.target;
            known.port_is_certain = true;
            known.because.push_str(&format!("; port from {file}"));
        }
        return;
    }
    findings.push(Finding {
        run: format!("docker compose up --build --no-log-prefix {}", service.name),
        name: service.name,
        directory: path.to_owned(),
        port: service.published,
        port_is_certain: true,
        build: None,
        h2c: false,
        because: format!("{file}: build and ports"),
    });
}

fn join(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) => format!("{path}/{name}"),
    }
}

/// Every web-like process: those that by name or command answer requests.
fn procfile(text: &str, directory: &Directory) -> Vec<Result<Finding, Option<String>>> {
    const NAMES: &[&str] = &["web", "api", "app", "server", "www", "http", "front", "back", "ui", "site"];
    const SERVERS: &[&str] = &[
        "uvicorn",
        "gunicorn",
        "hypercorn",
        "runserver",
        "puma",
        "rails s",
        "flask run",
        "next",
        "vite",
        "PORT",
    ];
    let mut found = Vec::new();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let Some((name, command)) = line.split_once(':') else {
            found.push(Err(Some(format!("{line:?} is not \"name: command\""))));
            continue;
        };
        let (name, command) = (name.trim(), command.trim());
        let web = NAMES.iter().any(|known| name.to_lowercase().contains(known));
        if command.is_empty() || !(web || SERVERS.iter().any(|known| command.contains(known))) {
            found.push(Err(Some(format!("process {name:?} does not look like it answers requests"))));
            continue;
        }
        let written = port_in(command);
        found.push(Ok(Finding {
            name: name.to_owned(),
            directory: directory.path.clone(),
            port: written.unwrap_or(5000),
            port_is_certain: written.is_some() || command.contains("$PORT") || command.contains("${PORT"),
            build: None,
            run: command.to_owned(),
            h2c: false,
            because: format!("process {name:?}"),
        }));
    }
    found
}

fn package_json(text: &str, directory: &Directory) -> Result<Finding, Option<String>> {
    let package: Value =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|why| Some(format!("it is not JSON: {why}")))?;
    let script = |name: &str| package["scripts"][name].as_str().filter(|script| !script.trim().is_empty());
    let chosen = ["dev", "start", "serve", "develop"]
        .into_iter()
        .find_map(|name| Some((name, script(name)?)));
    let Some((script_name, script)) = chosen else {
        return Err(Some("it has no dev, start or serve script".into()));
    };
    if !package["workspaces"].is_null() {
        return Err(Some("it is a workspace's root; its packages are looked at instead".into()));
    }
    let depends = |name: &str| {
        ["dependencies", "devDependencies"]
            .iter()
            .any(|table| !package[table][name].is_null())
    };
    let word = |word: &str| {
        script
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .any(|part| part == word)
    };
    // In the script first: a project may depend on several of them.
    let known = FRAMEWORKS.iter().find(|(command, _, _)| word(command));
    let known = known.or_else(|| FRAMEWORKS.iter().find(|(_, package, _)| depends(package)));
    let written = port_in(script);
    let runner = match () {
        () if directory.files.contains_key("pnpm-lock.yaml") => "pnpm",
        () if directory.files.contains_key("yarn.lock") => "yarn",
        () if directory.files.contains_key("bun.lock") || directory.files.contains_key("bun.lockb") => "bun",
        () => "npm",
    };
    let framework = known.map(|(command, _, _)| format!(" ({command})")).unwrap_or_default();
    Ok(Finding {
        name: package["name"]
            .as_str()
            .map(|name| name.rsplit('/').next().unwrap_or(name))
            .unwrap_or_default()
            .to_owned(),
        directory: directory.path.clone(),
        port: written.or(known.map(|(_, _, port)| *port)).unwrap_or(3000),
        port_is_certain: written.is_some(),
        build: None,
        run: format!("{runner} run {script_name}"),
        h2c: false,
        because: format!("script {script_name:?}{framework}"),
    })
}

/// The word in a script, the package, and the port where its development server listens by default.
const FRAMEWORKS: &[(&str, &str, u16)] = &[
    ("next", "next", 3000),
    ("nuxt", "nuxt", 3000),
    ("nuxi", "nuxt", 3000),
    ("astro", "astro", 4321),
    ("ng", "@angular/cli", 4200),
    ("react-scripts", "react-scripts", 3000),
    ("vue-cli-service", "@vue/cli-service", 8080),
    ("gatsby", "gatsby", 8000),
    ("remix", "@remix-run/dev", 3000),
    ("parcel", "parcel", 1234),
    ("storybook", "storybook", 6006),
    ("wrangler", "wrangler", 8787),
    ("vite", "vite", 5173),
    ("webpack", "webpack-dev-server", 8080),
    ("webpack-dev-server", "webpack-dev-server", 8080),
    ("nest", "@nestjs/core", 3000),
    ("express", "express", 3000),
    ("fastify", "fastify", 3000),
];

fn python(text: &str, directory: &Directory) -> Result<Finding, Option<String>> {
    let text = text.to_lowercase();
    let runner = match () {
        () if directory.files.contains_key("uv.lock") => "uv run ",
        () if directory.files.contains_key("poetry.lock") => "poetry run ",
        () => "",
    };
    let build = match runner {
        "uv run " => Some("uv sync"),
        "poetry run " => Some("poetry install"),
        _ => None,
    };
    let (run, port, framework) = if directory.files.contains_key("manage.py") && text.contains("django") {
        ("python manage.py runserver 8000".to_owned(), 8000, "Django")
    } else if ["fastapi", "uvicorn", "starlette"].iter().any(|name| text.contains(name)) {
        match python_app(directory, &["fastapi(", "starlette("]) {
            Some(app) => (format!("uvicorn {app} --port 8000 --reload"), 8000, "uvicorn"),
            None => {
                let run = "uvicorn main:app --port 8000 --reload".to_owned();
                (run, 8000, "uvicorn; main:app is a guess, no application was found")
            }
        }
    } else if text.contains("flask") {
        match python_app(directory, &["flask("]) {
            Some(app) => (format!("flask --app {app} run --port 5000 --debug"), 5000, "Flask"),
            None => {
                let run = "flask --app app:app run --port 5000 --debug".to_owned();
                (run, 5000, "Flask; app:app is a guess, no application was found")
            }
        }
    } else {
        return Err(Some("no uvicorn, FastAPI, Django or Flask in it".into()));
    };
    Ok(Finding {
        name: named(&text, "[project]")
            .or_else(|| named(&text, "[tool.poetry]"))
            .unwrap_or_default(),
        directory: directory.path.clone(),
        port,
        // The command says it.
        port_is_certain: true,
        build: build.map(str::to_owned),
        run: format!("{runner}{run}"),
        h2c: false,
        because: framework.to_owned(),
    })
}

/// `module:variable` of the first file that makes the application.
fn python_app(directory: &Directory, makes: &[&str]) -> Option<String> {
    const FILES: &[&str] = &[
        "main.py",
        "app/main.py",
        "app.py",
        "app/__init__.py",
        "asgi.py",
        "wsgi.py",
        "src/main.py",
    ];
    FILES.iter().find_map(|file| {
        let text = directory.files.get(*file)?;
        let line = text
            .lines()
            .find(|line| makes.iter().any(|make| line.to_lowercase().contains(make)))?;
        let variable = line.split(['=', ':']).next().unwrap_or_default().trim();
        let fine = !line.starts_with(char::is_whitespace)
            && !variable.is_empty()
            && variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let module = file.trim_end_matches(".py").trim_end_matches("/__init__").replace('/', ".");
        Some(format!("{module}:{}", if fine { variable } else { "app" }))
    })
}

fn cargo_toml(text: &str, directory: &Directory) -> Result<Finding, Option<String>> {
    if !text.lines().any(|line| line.trim() == "[package]") {
        return Err(Some("it has no [package]; its members are looked at instead".into()));
    }
    if directory.files.contains_key("src/lib.rs") && !directory.files.contains_key("src/main.rs") && !text.contains("[[bin]]") {
        return Err(Some("it is a library".into()));
    }
    let depends = |name: &str| {
        text.lines().any(|line| {
            line.trim_start()
                .strip_prefix(name)
                .is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
        })
    };
    let (port, h2c, framework) = match () {
        () if depends("tonic") => (50051, true, " (tonic)"),
        () if depends("rocket") => (8000, false, " (Rocket)"),
        () if depends("axum") => (3000, false, " (axum)"),
        () => (8080, false, ""),
    };
    Ok(Finding {
        name: named(text, "[package]").unwrap_or_default(),
        directory: directory.path.clone(),
        port,
        port_is_certain: false,
        build: Some("cargo build".into()),
        run: "cargo run".into(),
        h2c,
        because: format!("a Rust package{framework}"),
    })
}

fn go_mod(text: &str, directory: &Directory) -> Result<Finding, Option<String>> {
    let module = text.lines().find_map(|line| line.trim().strip_prefix("module "));
    let grpc = text.contains("google.golang.org/grpc ");
    // `example.com/shop/v2` is called shop.
    let version = |part: &&str| {
        part.strip_prefix('v')
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let name = module.and_then(|module| module.trim().rsplit('/').find(|part| !version(part)));
    Ok(Finding {
        name: name.unwrap_or_default().to_owned(),
        directory: directory.path.clone(),
        port: if grpc { 50051 } else { 8080 },
        port_is_certain: false,
        build: None,
        run: "go run .".into(),
        h2c: grpc,
        because: format!("a Go module{}", if grpc { " (gRPC)" } else { "" }),
    })
}

/// `name = "x"` below a header of a TOML file. A whole parser would only add ways to fail: without a name the directory's is taken.
fn named(text: &str, header: &str) -> Option<String> {
    let below = text.lines().skip_while(|line| line.trim() != header).skip(1);
    let line = below
        .take_while(|line| !line.trim_start().starts_with('['))
        .find_map(|line| line.trim().strip_prefix("name"))?;
    let value = line.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value[1..].split(quote).next().map(str::to_owned)
}

/// A port that a command names: `--port 8000`, `--port=8000`, `-p 8000`, `PORT=8000`, `:8000`.
fn port_in(command: &str) -> Option<u16> {
    let number = |text: &str| text.trim_matches(['"', '\'']).parse().ok().filter(|&port: &u16| port >= 80);
    let words: Vec<&str> = command.split_whitespace().collect();
    words.iter().enumerate().find_map(|(at, word)| match *word {
        "--port" | "-p" | "-P" | "--listen" => words.get(at + 1).and_then(|next| number(next)),
        _ => {
            let value = ["--port=", "-p=", "-p", "PORT=", "--listen="]
                .iter()
                .find_map(|prefix| word.strip_prefix(prefix));
            value
                .and_then(number)
                .or_else(|| word.rsplit_once(':').and_then(|(_, port)| number(port)))
        }
    })
}
