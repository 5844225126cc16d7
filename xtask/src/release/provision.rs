//! `--provision`: the bastion of the project here gets what was released, by the same library that `bastion upgrade` is.

use ephemwork::aws::ec2::DescribeInstanceTypes;
use ephemwork::aws::{Aws, Place};
use ephemwork::config::{self, S3Uri};
use ephemwork::error::Error;
use ephemwork::host::{self, Host};
use ephemwork::provision::command;
use ephemwork::provision::converge::Said;
use ephemwork::provision::wanted::Wanted;

use super::{File, Shelf};

fn told(error: Error) -> String {
    error.to_string()
}

pub(super) async fn upgrade(host: &Host, place: &Place, shelf: &Shelf, files: &[File], dry_run: bool) -> Result<(), String> {
    let mut wanted = wanted(host)?;
    wanted.region = place.region.clone().or(wanted.region);
    let there = Place {
        region: wanted.region.clone(),
        profile: place.profile.clone(),
    };
    let aws = Aws::open(host, &there).await.map_err(told)?;
    let file = fitting(&aws, &wanted.instance_type, files).await?;
    let uri = shelf.location(&file.binary.file).to_string();
    wanted.binary = Some(S3Uri::parse(&uri).map_err(|why| format!("{uri}: {why}"))?);
    if dry_run {
        println!("dry run: would upgrade the bastion of {:?} to {uri}", wanted.project);
        return Ok(());
    }
    println!("upgrading the bastion of {:?} to {uri}", wanted.project);
    let mut say = |said: Said<'_>| match said {
        Said::Begin(step) => println!("  {}", step.title()),
        Said::Waiting { since, why, .. } => println!("    {} s: {why}", since.as_secs()),
        Said::Done { .. } => {}
    };
    let upgraded = command::upgrade(host, &wanted, place.profile.as_deref(), &mut say).await;
    upgraded.map_err(told)?;
    println!("the bastion of {:?} runs it", wanted.project);
    Ok(())
}

fn wanted(host: &Host) -> Result<Wanted, String> {
    let Some(file) = config::find(&host.directory, |file| file.is_file()) else {
        return Err(format!(
            "no ephemwork.toml in {} or above it; --provision upgrades the bastion that it describes",
            host.directory.display()
        ));
    };
    let text = host::read_text(&file, config::MAX_BYTES as u64).map_err(|why| format!("{}: {why}", file.display()))?;
    let config = config::parse(&text, &file).map_err(|mistakes| config::failure(&mistakes, &text, &file).to_string())?;
    Ok(Wanted::of(&config))
}

/// The file for the processor of the bastion's instance type.
async fn fitting<'f>(aws: &Aws, instance_type: &str, files: &'f [File]) -> Result<&'f File, String> {
    let asked = DescribeInstanceTypes {
        types: vec![instance_type.to_owned()],
        next: None,
    };
    let known = aws.call(&asked).await.map_err(|failure| told(Error::from(failure)))?.items;
    let architectures = known.first().map(|known| known.architectures.clone()).unwrap_or_default();
    let fits = |file: &&File| architectures.contains(&file.binary.architecture);
    files.iter().find(fits).ok_or_else(|| {
        format!(
            "{instance_type} is {}, for which nothing was released; name its target with --targets",
            architectures.join(" or ")
        )
    })
}
