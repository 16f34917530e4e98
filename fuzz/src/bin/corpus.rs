//! `corpus pack FILE DIR` writes the inputs in a directory into one text, `corpus unpack FILE DIR` the other way round.

#[path = "../../targets/corpus.rs"]
mod corpus;

use std::fs;
use std::path::Path;

/// The text of one target is no longer: the longest inputs are left out.
const TEXT_BYTES_MAX: usize = 100 << 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, file, dir] = &arguments[..] else {
        return Err("corpus pack|unpack FILE DIR".into());
    };
    if what == "unpack" {
        fs::create_dir_all(dir)?;
        for (number, input) in corpus::parse(&fs::read_to_string(file)?).iter().enumerate() {
            fs::write(Path::new(dir).join(format!("corpus-{number:05}")), input)?;
        }
        return Ok(());
    }
    let mut inputs = Vec::new();
    for entry in fs::read_dir(dir)? {
        inputs.push(fs::read(entry?.path())?);
    }
    inputs.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    let mut left = TEXT_BYTES_MAX;
    let fits = inputs.iter().take_while(|input| {
        let length = corpus::write(std::slice::from_ref(input)).len();
        left.checked_sub(length).inspect(|rest| left = *rest).is_some()
    });
    let fits = fits.count();
    fs::write(file, corpus::write(&inputs[..fits]))?;
    Ok(())
}
