//! What a process is when it is no interpreter that can be observed, and what is true of its lock.

use std::path::Path;

use crate::target::maps::MemoryMap;

/// A program without a lock that can be observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// gilscope itself, without a toy program.
    Gilscope,
    /// A PyPy whose interpreter is in no file that it maps, or not yet.
    PyPy,
    /// Python on the Java machine, no global lock.
    Jython,
    /// Python on .NET, no global lock.
    IronPython,
    /// Python on GraalVM.
    GraalPy,
    /// Another program, by the name of its executable.
    Other(String),
}

impl Foreign {
    /// Recognises a program by its executable, its command line and the files it maps.
    pub fn recognise(exe: &Path, command: &str, map: &MemoryMap) -> Self {
        let name =
            exe.file_name().map_or_else(|| exe.display().to_string(), |name| name.to_string_lossy().into_owned());
        let name = name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned();
        let command = command.to_ascii_lowercase();
        let paths: Vec<String> = map.files().iter().map(|file| file.path.to_ascii_lowercase()).collect();
        let maps = |part: &str| paths.iter().any(|path| path.contains(part));
        let mentions = |part: &str| command.contains(part) || maps(part);
        let managed = |machine: &str| name.starts_with(machine) || maps(machine);
        match name.as_str() {
            "gilscope" => Self::Gilscope,
            _ if is_named_pypy(exe) || maps("/libpypy") => Self::PyPy,
            _ if name.starts_with("graalpy") || maps("libpythonvm") => Self::GraalPy,
            _ if managed("java") && mentions("graalpython") => Self::GraalPy,
            _ if managed("java") && mentions("jython") => Self::Jython,
            _ if (managed("dotnet") || managed("mono")) && mentions("ironpython") => Self::IronPython,
            _ => Self::Other(name),
        }
    }
}

/// Whether a program goes by the name of PyPy, as far as its path tells.
pub fn is_named_pypy(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pypy"))
}

impl Foreign {
    /// What to use instead, for those that are Python; `None` for other programs.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::PyPy => Some("if the program runs on CPython as well: gilscope run --python python3 SCRIPT"),
            Self::Jython => {
                Some("its threads wait for each other only at locks of objects: async-profiler -e lock shows those")
            }
            Self::IronPython => {
                Some("its threads wait for each other only at locks of objects: dotnet-trace shows those")
            }
            Self::GraalPy => {
                Some("what its threads do: graalpy --cpusampler; what they wait for: async-profiler -e lock")
            }
            Self::Gilscope | Self::Other(_) => None,
        }
    }
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gilscope => f.write_str("gilscope itself and runs no toy program"),
            Self::PyPy => f.write_str(
                "a PyPy that is just starting, or whose interpreter is not in a library of its own (libpypy): gilscope cannot \
                 find its global lock",
            ),
            Self::Jython => f.write_str("Jython, which has no global lock"),
            Self::IronPython => f.write_str("IronPython, which has no global lock"),
            Self::GraalPy => f.write_str("GraalPy, which has an interpreter lock that this tool cannot see"),
            Self::Other(name) if name.starts_with("ruby") => {
                write!(f, "{name}, whose global lock gilscope does not know; it observes CPython and its own toy VM")
            }
            Self::Other(name) => {
                write!(f, "{name}, not a Python interpreter; gilscope observes CPython and its toy VM")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Foreign;
    use crate::target::maps::MemoryMap;

    fn recognised(exe: &str, command: &str) -> Foreign {
        Foreign::recognise(Path::new(exe), command, &MemoryMap::default())
    }

    #[test]
    fn programs_are_told_apart() {
        let java = "/usr/lib/jvm/java-17/bin/java";
        assert_eq!(recognised(java, "java -cp /usr/share/java/jython.jar org.python.util.jython"), Foreign::Jython);
        assert_eq!(recognised(java, "java -cp graalpython-launcher.jar"), Foreign::GraalPy);
        assert_eq!(recognised(java, "java -jar x.jar"), Foreign::Other("java".to_owned()));
        assert_eq!(recognised("/usr/lib/pypy3.9/bin/pypy3.9", "pypy3"), Foreign::PyPy);
        assert_eq!(recognised("/usr/bin/bash (deleted)", "bash jython"), Foreign::Other("bash".to_owned()));
    }

    #[test]
    fn what_is_mapped_tells_where_the_name_does_not() {
        let mapping =
            |path: &str| MemoryMap::parse(&format!("7f0000000000-7f0000001000 r-xp 00000000 fe:01 99 {path}\n"));
        let recognised =
            |exe: &str, command: &str, path: &str| Foreign::recognise(Path::new(exe), command, &mapping(path));
        let java = "/usr/lib/jvm/java-17/bin/java";
        // As recorded: an embedding program, a native image, a class path in a manifest, and the two .NET hosts.
        assert_eq!(recognised("/usr/bin/uwsgi", "uwsgi", "/usr/lib/x86_64-linux-gnu/libpypy3.9-c.so"), Foreign::PyPy);
        assert_eq!(recognised("/opt/app/app", "app", "/opt/graalpy-24.1/lib/libpythonvm.so"), Foreign::GraalPy);
        assert_eq!(recognised(java, "java -jar app.jar", "/opt/app/lib/jython-standalone-2.7.3.jar"), Foreign::Jython);
        assert_eq!(recognised("/usr/bin/dotnet", "dotnet ipy.dll", "/opt/ipy/IronPython.dll"), Foreign::IronPython);
        assert_eq!(recognised("/usr/bin/mono-sgen", "mono ipy.exe", "/opt/ipy/IronPython.dll"), Foreign::IronPython);
        assert_eq!(recognised("/usr/bin/dotnet", "dotnet x.dll", "/opt/x/x.dll"), Foreign::Other("dotnet".to_owned()));
    }

    #[test]
    fn each_python_comes_with_advice_and_no_other_program_does() {
        for python in [Foreign::PyPy, Foreign::Jython, Foreign::IronPython, Foreign::GraalPy] {
            assert!(python.advice().is_some_and(|advice| advice.contains("gilscope run") || advice.contains('-')));
        }
        assert_eq!(Foreign::Other("bash".to_owned()).advice(), None);
        assert!(
            Foreign::Jython.to_string().contains("no global lock")
                && Foreign::IronPython.to_string().contains("no global lock")
        );
    }

    #[test]
    fn nothing_is_denied_that_is_not_known() {
        assert!(Foreign::GraalPy.to_string().contains("cannot see"));
        assert!(!recognised("/usr/bin/ruby3.1", "").to_string().contains("no global lock"));
    }
}
