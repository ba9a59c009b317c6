//! What the environment says.

use qins_model::hub::{Hub, HubBuilder};

use crate::{
    case::{Case, fetch},
    repository::NAME,
};

#[test]
fn an_endpoint_that_is_no_url_is_refused_without_its_password() {
    for endpoint in ["", "hub", "ftp://user:secret@hub", "http://", "http://user:secret@hub:port", "https://hub/?a=b"] {
        let error = Hub::builder("cache").endpoint(endpoint).build().unwrap_err().to_string();
        assert!(error.starts_with("HF_ENDPOINT: expected the URL of a hub") && !error.contains("secret"), "{error}");
    }
}

#[test]
fn a_token_that_cannot_be_sent_is_refused_and_not_shown() {
    let error = Hub::builder("cache").token("sec\nret").build().unwrap_err().to_string();
    assert!(error.starts_with("HF_TOKEN: expected") && !error.contains("ret"), "{error}");
}

#[test]
fn an_endpoint_may_have_a_path() {
    let case = Case::new();
    fetch(case.hub().endpoint(format!("{}/mirror/", case.server.url)), NAME).refused("a path", &["404"]);
    let requests = case.server.requests();
    assert_eq!(requests[0].path, "/mirror/api/models/owner/name/revision/main");
}

#[test]
fn a_revision_is_one_segment_of_the_url() {
    let case = Case::new();
    case.fetch("owner/name@refs/pr/7").refused("absent", &["owner/name@refs/pr/7", "no `refs/pr/7`"]);
    assert_eq!(case.server.requests()[0].path, "/api/models/owner/name/revision/refs%2Fpr%2F7");
}

#[test]
fn no_token_is_sent_where_none_is_given_or_it_is_disabled() {
    let case = Case::new();
    std::fs::create_dir_all(case.home.path().join("hf")).unwrap();
    std::fs::write(case.home.path().join("hf/token"), "stored").unwrap();
    fetch(HubBuilder::from_vars(case.vars(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")])).unwrap(), NAME).done();
    assert!(case.server.requests().iter().all(|request| !request.headers.contains_key("authorization")));
    fetch(HubBuilder::from_vars(case.vars(&[])).unwrap().force_download(true), NAME).done();
    assert!(case.server.requests().iter().all(|request| request.token() == "Bearer stored"));
}
