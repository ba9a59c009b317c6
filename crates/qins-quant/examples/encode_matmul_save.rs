//! Encodes a matrix, multiplies by it, and saves it: `cargo run -p qins-quant --example encode_matmul_save`.

use qins_quant::{EncodedTensor, Fidelity, Scheme};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Any weights `[rows, cols]`, row-major: here a damped sine.
    let [rows, cols] = [256, 1024];
    let weights: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.37).sin() / (1.0 + (i % 97) as f32)).collect();
    let x = vec![1.0; cols];
    for scheme in [Scheme::Q8, Scheme::Q4, Scheme::Q3] {
        let w = EncodedTensor::encode(&weights, [rows, cols], scheme)?;
        let bits = 8.0 * w.bytes() as f64 / weights.len() as f64;
        let mut y = vec![0.0; rows];
        w.matmul(&x, &mut y)?;
        let db = Fidelity::of(&weights, &w.decode()).sqnr_db().unwrap_or(f64::INFINITY);
        println!("{scheme}: {bits:.2} bits per weight, {db:.1} dB, y[0] = {:.4}", y[0]);
    }
    let w = EncodedTensor::encode(&weights, [rows, cols], Scheme::Q4)?;
    let file = std::env::temp_dir().join(format!("qins-example-{}.safetensors", std::process::id()));
    w.save(&file)?;
    assert_eq!(EncodedTensor::load(&file)?, w);
    println!("{} bytes in {}", std::fs::metadata(&file)?.len(), file.display());
    std::fs::remove_file(&file)?;
    Ok(())
}
