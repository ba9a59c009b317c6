//! What is not as announced, and a hub that does not give a model.

use serde_json::{Value, json};

use crate::{
    case::Case,
    repository::{INDEX, MAIN, NAME, SHARDS},
    server::Answer,
};

/// Changes what the listing tells of the second shard.
fn announce(case: &Case, change: impl Fn(&mut Value) + Send + Sync + 'static) {
    case.server.misbehave(move |request, answer| {
        if request.path.contains("/tree/") {
            let mut entries: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
            entries.iter_mut().filter(|entry| entry["path"] == SHARDS[1]).for_each(&change);
            answer.body = serde_json::to_vec(&entries).unwrap();
        }
    });
}

/// Changes every answer about a file.
fn resolve(case: &Case, file: &'static str, change: impl Fn(&mut Answer) + Send + Sync + 'static) {
    case.server.misbehave(move |request, answer| {
        if request.path.contains("/resolve/") && request.path.ends_with(file) {
            change(answer);
        }
    });
}

#[test]
fn what_is_not_as_announced_is_refused_and_nothing_of_it_stays() {
    let case = Case::new();
    // A byte that is another one.
    for file in ["config.json", SHARDS[1]] {
        case.server.misbehave(move |request, answer| {
            if request.is_for(file) {
                answer.body[9] ^= 1;
            }
        });
        case.refused(file, &["expected checksum", "found"]);
    }
    // More bytes and fewer bytes.
    announce(&case, |entry| entry["lfs"]["size"] = 30000.into());
    case.refused(SHARDS[1], &["expected 30000 bytes, found 3010"]);
    announce(&case, |entry| entry["lfs"]["size"] = 32184.into());
    case.refused(SHARDS[1], &["expected 32184 bytes, found 3010"]);
    // What is no checksum, and could be a path.
    for oid in ["../../evil", "/tmp/evil", "", "abc"] {
        announce(&case, move |entry| entry["lfs"]["oid"] = oid.into());
        case.refused("", &["expected the listing of a repository", SHARDS[1], "SHA-256"]);
    }
    // A tokenizer of a terabyte.
    case.server.misbehave(|request, answer| {
        if request.path.contains("/tree/") {
            let entry = json!({ "type": "file", "path": "tokenizer.json", "size": 1_u64 << 40, "oid": "0".repeat(40) });
            let mut entries: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
            entries.push(entry);
            answer.body = serde_json::to_vec(&entries).unwrap();
        }
    });
    case.refused("tokenizer.json", &["expected at most", "found 1099511627776"]);
    // Redirections to nowhere, and without an end.
    resolve(&case, SHARDS[1], |answer| answer.becomes(302, &[]));
    case.refused(SHARDS[1], &["expected a redirection to a URL"]);
    resolve(&case, SHARDS[1], |answer| {
        answer.becomes(302, &[("location", &format!("/owner/name/resolve/{MAIN}/{}", SHARDS[1]))]);
    });
    case.refused(SHARDS[1], &["expected at most 5 redirections"]);
    // And then all is well.
    case.server.behave();
    case.fetch(NAME).done();
    case.is_whole();
}

#[test]
fn an_index_that_leads_elsewhere_is_refused() {
    for (name, says) in [
        ("../evil.safetensors", "\"../evil.safetensors\""),
        ("/tmp/evil.safetensors", "\"/tmp/evil.safetensors\""),
        ("sub/evil.safetensors", "\"sub/evil.safetensors\""),
        ("evil.bin", "\"evil.bin\""),
        ("absent.safetensors", "absent.safetensors: "),
    ] {
        let case = Case::new();
        case.server.set_file(MAIN, INDEX, json!({ "weight_map": { "w": name } }).to_string());
        case.fetch(NAME).refused(name, &[NAME, says]);
        let asked = case.server.requests().into_iter().filter(|request| request.path.contains("evil")).count();
        assert_eq!(asked, 0, "{name}");
    }
    for (index, says) in [("{}", "missing field `weight_map`"), ("{\"weight_map\":{}}", "found none")] {
        let case = Case::new();
        case.server.set_file(MAIN, INDEX, index);
        case.fetch(NAME).refused(index, &[INDEX, says]);
    }
}

#[test]
fn a_hub_that_does_not_give_a_model_is_quoted() {
    let case = Case::new();
    let hub = case.server.url.as_str();
    case.fetch("owner/none").refused("repository", &["owner/none", hub, "404", "check the name"]);
    case.fetch("owner/name@v9").refused("revision", &["owner/name@v9", hub, "no `v9`"]);
    for status in [401, 403] {
        case.server.misbehave(move |_, answer| answer.becomes(status, &[]));
        case.fetch(NAME).refused("listing", &[hub, &status.to_string(), "accept the licence", "HF_TOKEN"]);
        // A gated model is listed for all.
        resolve(&case, "config.json", move |answer| answer.becomes(status, &[]));
        case.refused("config.json", &[&status.to_string(), "accept the licence", "HF_TOKEN"]);
    }
    resolve(&case, "config.json", |answer| answer.becomes(404, &[]));
    case.refused("config.json", &["404"]);
    let sha = |sha: &str| format!("{{\"sha\":\"{sha}\",\"siblings\":[]}}");
    for (text, says) in [
        ("<html>\nSign in</html>".to_owned(), "expected the listing of a repository, found another text"),
        ("{}".to_owned(), "missing field `sha`"),
        (sha("../../evil"), "commit \"../../evil\""),
    ] {
        case.server.misbehave(move |_, answer| answer.body = text.clone().into());
        case.fetch(NAME).refused(says, &[NAME, says]);
    }
    case.server.misbehave(|request, answer| {
        if request.path.contains("/tree/") {
            answer.body = b"[]".to_vec();
        }
    });
    case.fetch(NAME).refused("empty", &["config.json: ", "expected it in the repository, found none"]);
}
