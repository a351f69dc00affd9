//! Options about the process of a worker, which are the same in both dialects.

use crate::sys::cpus::CpuSet;
use crate::sys::limits::ResourceLimit;

/// What a worker's process is given that the master does not have.
#[derive(Debug, Clone, clap::Args)]
pub struct ProcessArgs {
    /// User and group of the workers, by name or number, with the user's supplementary groups. The master keeps
    /// its own [default: the master's]
    #[arg(long, value_name = "USER[:GROUP]", value_parser = parse_user, help_heading = "Worker processes")]
    pub user: Option<UserArg>,

    /// Group of the workers, by name or number [default: the user's]
    #[arg(long, value_name = "GROUP", value_parser = parse_name, help_heading = "Worker processes")]
    pub group: Option<String>,

    /// File mode creation mask of the workers, in octal [default: the master's]
    #[arg(long, value_name = "MASK", value_parser = parse_umask, help_heading = "Worker processes")]
    pub umask: Option<u32>,

    /// Resource limit of the workers, repeatable: NAME is that of setrlimit(2) without RLIMIT_, such as nofile; limits
    /// are numbers or "infinity". SOFT alone sets both
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Worker processes")]
    pub rlimit: Vec<ResourceLimit>,

    /// How readily the kernel kills the workers when memory runs out, from -1000 to 1000 [default: the master's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(-1000..=1000),
          allow_hyphen_values = true, help_heading = "Worker processes")]
    pub oom_score_adj: Option<i16>,

    /// CPUs of the workers by slot: sets such as 0,1,2-3 or 0+4,1+5, the first for slot 0 and so on in turn;
    /// "auto" for one CPU each [default: the master's]
    #[arg(long, value_name = "SETS|auto", value_parser = parse_cpu_affinity, help_heading = "Worker processes")]
    pub cpu_affinity: Option<CpuAffinityArg>,

    /// Keep the workers from gaining privileges through programs that they execute, such as set-user-ID ones
    #[arg(long, help_heading = "Worker processes")]
    pub no_new_privs: bool,
}

/// What `--user` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserArg {
    /// Name or number.
    pub user: String,
    /// Name or number.
    pub group: Option<String>,
}

/// What `--cpu-affinity` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuAffinityArg {
    /// One CPU for each slot, of those that the master may use.
    Auto,
    /// A set for each slot.
    Sets(Vec<CpuSet>),
}

fn parse_user(text: &str) -> Result<UserArg, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(parse_name(group)?)),
        None => (text, None),
    };
    Ok(UserArg { user: parse_name(user)?, group })
}

fn parse_name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must be a name or a number".to_owned()),
        _ if text.contains([':', '\0']) => {
            Err(format!("\"{}\" is no name and no number", text.escape_debug()))
        }
        _ => Ok(text.to_owned()),
    }
}

fn parse_umask(text: &str) -> Result<u32, String> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let umask = u32::from_str_radix(text, 8).ok().filter(|umask| is_octal && *umask <= 0o777);
    umask.ok_or_else(|| "must be octal, from 000 to 777".to_owned())
}

fn parse_cpu_affinity(text: &str) -> Result<CpuAffinityArg, String> {
    if text == "auto" {
        return Ok(CpuAffinityArg::Auto);
    }
    let sets = text.split(',').map(|set| set.parse::<CpuSet>().map_err(|error| error.to_string()));
    sets.collect::<Result<_, _>>().map(CpuAffinityArg::Sets)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Args;

    use super::*;

    fn parse(words: &[&str]) -> Result<ProcessArgs, String> {
        let words = ["einhyrningsins"].iter().chain(words).chain(&["server"]);
        Args::try_parse_from(words).map(|args| args.shared.process).map_err(|error| error.to_string())
    }

    #[test]
    fn a_user_may_bring_a_group() {
        let user = |text| parse(&["--user", text]).map(|args| args.user.unwrap());
        assert_eq!(user("www"), Ok(UserArg { user: "www".into(), group: None }));
        assert_eq!(user("33:adm"), Ok(UserArg { user: "33".into(), group: Some("adm".into()) }));
        for text in ["", ":", "www:", ":adm", "a:b:c"] {
            let error = user(text).unwrap_err();
            assert!(error.contains("--user"), "{text}: {error}");
        }
    }

    #[test]
    fn a_mask_is_octal() {
        let umask = |text| parse(&["--umask", text]).map(|args| args.umask);
        assert_eq!(umask("027"), Ok(Some(0o27)));
        assert_eq!(umask("0"), Ok(Some(0)));
        assert_eq!(umask("0777"), Ok(Some(0o777)));
        for text in ["", "8", "1000", "+7", "rwx"] {
            assert!(umask(text).unwrap_err().contains("must be octal"), "{text}");
        }
    }

    #[test]
    fn limits_pile_up() {
        let args = parse(&["--rlimit", "nofile=1024:2048", "--rlimit", "core=infinity"]).unwrap();
        assert_eq!(format!("{:?}", args.rlimit), "[nofile=1024:2048, core=infinity:infinity]");
        let error = parse(&["--rlimit", "files=1"]).unwrap_err();
        assert!(error.contains("--rlimit") && error.contains("nofile"), "{error}");
    }

    #[test]
    fn cpus_are_sets_by_slot() {
        let affinity = |text| parse(&["--cpu-affinity", text]).map(|args| args.cpu_affinity.unwrap());
        let sets = ["0", "1", "2-3"].map(|set| set.parse().unwrap()).to_vec();
        assert_eq!(affinity("0,1,2-3"), Ok(CpuAffinityArg::Sets(sets)));
        assert_eq!(affinity("auto"), Ok(CpuAffinityArg::Auto));
        for text in ["", ",", "0,", "Auto", "0 1"] {
            assert!(affinity(text).unwrap_err().contains("not a set of CPUs"), "{text}");
        }
    }

    #[test]
    fn badness_may_be_negative_and_has_bounds() {
        let value = |text| parse(&["--oom-score-adj", text]).map(|args| args.oom_score_adj);
        assert_eq!(value("-500"), Ok(Some(-500)));
        assert_eq!(value("1000"), Ok(Some(1000)));
        for text in ["-1001", "1001", "x"] {
            assert!(value(text).unwrap_err().contains("--oom-score-adj"), "{text}");
        }
    }
}
