"""Completion of the command line for bash, zsh and fish, made from the table of commands.

`table` {command: (its help, {option: values})}: the option "" is what stands without one; the values that may follow are offered, none
of them where a file or a free word follows, and `values` is None where nothing follows.
"""

BASH = """\
_rlctrl() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words="{commands}"
    [ "$COMP_CWORD" -eq 1 ] || case "${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}} $word" in
{cases}
        *) words="" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _rlctrl rlctrl"""


def script(shell, table) -> str:
    """The script for a shell. Where it offers no words, the shell offers files. In zsh bash's own completion is loaded first."""
    if shell == "fish":
        return "\n".join(line for name, (text, options) in table.items() for line in _fish(name, text, options))
    cases = "\n".join(f'        {pattern}) words="{" ".join(words)}" ;;' for n, (_, o) in table.items() for pattern, words in _bash(n, o))
    text = BASH.format(commands=" ".join(table), cases=cases)
    return f"autoload -Uz bashcompinit && bashcompinit\n{text}" if shell == "zsh" else text


def _bash(name, options):
    """What to offer by "command, word before, word": after an option its values, else values and options."""
    flags = [option for option in options if option]
    after = [(f'"{name} {option} "*', options[option]) for option in flags if options[option] is not None]
    if values := options.get("", ()):
        return [*after, (f'"{name} "*', [*values, *flags])]
    return [*after, (f'"{name} "*" -"*', flags)]


def _fish(name, text, options):
    quoted = text.replace("'", "\\'")
    yield f"complete -c rlctrl -f -n __fish_use_subcommand -a {name} -d '{quoted}'"
    for option, values in options.items():
        what = f" -l {option.lstrip('-')}" * bool(option) + " -r" * bool(option and values is not None)
        offered = f" -f -a '{' '.join(values)}'" if values else ""
        if what or offered:
            yield f"complete -c rlctrl -n '__fish_seen_subcommand_from {name}'{what}{offered}"
