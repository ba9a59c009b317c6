//! `qins doctor`.

use crate::common::Home;

#[test]
fn machine_and_backends_are_listed() {
    let home = Home::new("e_tied/f32");
    let text = home.qins("doctor").done();
    for part in ["cpu ", "kernels ", "+ flex "] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let [findings] = &home.qins("doctor --json").lines()[..] else { panic!("not one line") };
    let backends = findings["backends"].as_array().unwrap();
    let names: Vec<&str> = backends.iter().map(|backend| backend["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["flex", "ndarray", "wgpu", "cuda"]);
    for backend in backends {
        let usable = backend["usable"].as_bool().unwrap();
        assert!(backend["in_build"].as_bool().unwrap() || !usable, "{backend}");
        assert!(!backend["why"].as_str().unwrap().is_empty(), "{backend}");
    }
    assert_eq!(backends[0]["usable"], true);
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    match findings["huge_pages"].as_str() {
        Some(found) => {
            assert!(setting.unwrap().contains(&format!("[{found}]")), "{found}");
            let kept = if found == "never" { "weights are not kept" } else { "weights are kept" };
            assert!(text.contains(kept), "{text}");
        }
        None => assert!(setting.is_err() && !text.contains("weights are"), "{text}"),
    }
    assert!(findings["threads"].as_u64().unwrap() > 0);
    assert!(findings["simd"]["available"].as_array().unwrap().contains(&findings["simd"]["used"]));
}

/// For scripts: an unusable backend is an error, after everything was printed.
#[test]
fn requested_backend_must_be_usable() {
    let home = Home::new("e_tied/f32");
    home.qins("doctor --backend flex").done();
    let cuda = home.qins("doctor --backend cuda");
    if !cfg!(feature = "cuda") {
        assert_eq!(cuda.code, Some(2), "{}", cuda.err);
        assert_eq!(cuda.err, "error: backend `cuda` is not in this build: build with `--features cuda`\n");
        assert!(cuda.out.contains("- cuda "), "{}", cuda.out);
    }
    home.qins("doctor --backend abacus").rejected("abacus", &["`abacus`", "flex, ndarray, wgpu, cuda"]);
}
