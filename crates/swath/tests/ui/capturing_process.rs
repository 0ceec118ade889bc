//! A process that is started again cannot take anything along.

use swath::Process;

fn main() -> swath::Result<()> {
    swath::init();
    let times = 3;
    let process = Process::spawn(|word: String| println!("{}", word.repeat(times)), "hello".to_owned())?;
    process.join()?;
    Ok(())
}
