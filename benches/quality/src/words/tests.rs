use std::fs;

use serde_json::{Value, json};

use super::*;

fn figures(kl: f64) -> Value {
    let estimate = |value: f64| json!({ "value": value, "low": 0.5 * value, "high": 2.0 * value });
    json!({ "positions": 160, "mean_kl": estimate(kl), "top1_agreement": estimate(0.5) })
}

fn candidate(name: &str, checkpoint: Option<&str>, nominal: Option<f64>, bits: Option<f64>, kl: f64) -> Value {
    json!({
        "name": name, "role": "judged", "checkpoint": checkpoint, "nominal_bits_per_weight": nominal, "bits_per_weight": bits,
        "alpha": null, "figures": { "teacher_forced": figures(kl), "contexts": [] },
    })
}

fn report(candidates: &[Value]) -> Value {
    json!({ "partial": false, "candidates": candidates })
}

/// One candidate of each kind, and two controls.
fn candidates() -> Vec<Value> {
    let mut collapsed = candidate("q8 α=0.01", None, None, Some(8.1), 5.0);
    collapsed["role"] = json!("control");
    let mut fixed = candidate("q8 α=1", None, None, Some(8.1), 1e-3);
    fixed["alpha"] = json!(1.0);
    vec![
        candidate("baseline repeated (A/A)", None, None, None, 0.0),
        candidate("q4", None, None, Some(4.4), 3e-3),
        candidate("q8", None, None, Some(8.1), 2e-5),
        candidate("q4", Some("out/q4"), None, Some(4.4), 1e-3),
        candidate("Q4_K", Some("out/Q4_K"), Some(4.5), None, 4e-3),
        candidate("Q4_K-imatrix", Some("out/Q4_K-imatrix"), Some(4.5), None, 2e-3),
        fixed,
        collapsed,
    ]
}

fn written(reports: &[(&str, Value)]) -> Result<(String, String, Vec<Model>), String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, report) in reports {
        fs::write(dir.path().join(format!("{name}.report.json")), report.to_string()).unwrap();
    }
    let table = write(dir.path()).map_err(|e| e.to_string())?;
    let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
    assert_eq!(read("words.md"), table);
    let models: Value = serde_json::from_str(&read("words.json")).unwrap();
    assert_eq!(models.as_array().unwrap().len(), reports.len());
    Ok((table, read("words.svg"), read::all(dir.path()).unwrap()))
}

#[test]
fn every_candidate_is_in_the_table_once_and_no_control_is() {
    let (table, svg, models) = written(&[("small", report(&candidates()))]).unwrap();
    let names: Vec<&str> = models[0].formats.iter().map(|format| &*format.name).collect();
    assert_eq!(names, ["q8", "Q4_K", "q4"]);
    let kl = |cell: Option<Cell>| cell.map(|cell| cell.mean_kl.value);
    let found = models[0].formats.iter().map(|f| (f.program, kl(f.uncalibrated), kl(f.calibrated)));
    let expected = [
        (Program::Qins, Some(2e-5), None),
        (Program::Llama, Some(4e-3), Some(2e-3)),
        (Program::Qins, Some(3e-3), Some(1e-3)),
    ];
    assert!(found.eq(expected));
    let row = "| `q4` | 4.40 | 3.00e-3 [1.50e-3, 6.00e-3] · 50.00 % | 1.00e-3 [5.00e-4, 2.00e-3] · 50.00 % |";
    assert!(table.contains(row) && table.contains("| `q8` | 8.10 | 2.00e-5") && !table.contains('α'), "{table}");
    assert!(table.contains("small: greedy texts, 160 tokens"), "{table}");
    // A mark for what two of them are without a calibration.
    let count = |text: &str| svg.matches(text).count();
    assert_eq!((count("<circle"), count("<path"), count("without calibration")), (3, 2, 1));
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn a_model_has_its_panel_and_only_its_own_formats() {
    let mut contexts = candidate("q3", None, None, Some(3.4), 1e-2);
    contexts["figures"] = json!({ "teacher_forced": null, "contexts": [figures(1e-2)] });
    contexts["figures"]["contexts"][0]["length"] = json!(256);
    let (table, svg, _) = written(&[("small", report(&candidates())), ("large", report(&[contexts]))]).unwrap();
    assert!(table.contains("large: contexts of 256 tokens, 160 tokens"), "{table}");
    assert_eq!((svg.matches("<g ").count(), svg.matches("<circle").count()), (2, 4));
    // What has no marks explains none.
    assert_eq!(svg.matches("without calibration").count(), 1);
}

#[test]
fn reports_without_data_are_refused_by_name() {
    let refused = |report: Value| written(&[("small", report)]).unwrap_err();
    assert!(written(&[]).unwrap_err().contains("expected reports MODEL.report.json, found none"));
    assert!(refused(report(&candidates()[..1])).contains("small.report.json: expected encoded candidates, found none"));
    let mut empty = candidates();
    empty[4]["figures"]["teacher_forced"] = Value::Null;
    let message = refused(report(&empty));
    assert!(message.contains("small.report.json: Q4_K: expected predictions that were compared"), "{message}");
    let mut partial = report(&candidates());
    partial["partial"] = json!(true);
    assert!(refused(partial).contains("interrupted"));
    assert!(refused(json!({ "candidates": [] })).contains("small.report.json"));
}
