"""Completion of the command line for bash, zsh and fish, made from the table of commands."""

BASH = """\
_rlctrl() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))
}}
complete -o filenames -F _rlctrl rlctrl"""


def script(shell, words) -> str:
    """The script for a shell; `words` {command: its long options}. In zsh bash's own completion is loaded first."""
    if shell == "fish":
        commands = [f"complete -c rlctrl -n __fish_use_subcommand -a {name}" for name in words]
        options = [
            f"complete -c rlctrl -n '__fish_seen_subcommand_from {n}' -l {o.lstrip('-')}" for n, known in words.items() for o in known
        ]
        return "\n".join(commands + options)
    cases = "\n".join(f'        {name}) words="{" ".join(known)}" ;;' for name, known in words.items())
    text = BASH.format(commands=" ".join(words), cases=cases)
    return f"autoload -Uz bashcompinit && bashcompinit\n{text}" if shell == "zsh" else text
