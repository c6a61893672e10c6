_attnbench() {
  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
  local command="${COMP_WORDS[1]}" key="" value="" head="" names="" start=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "COMMANDS" -- "$word"))
    return
  fi
  if [ "$word" = "=" ]; then # bash takes = for a word of its own, zsh and a quoted word do not
    key="$before"
  elif [ "$before" = "=" ]; then
    key="${COMP_WORDS[COMP_CWORD-2]}" value="$word"
  elif [[ "$word" == *=* ]]; then
    start="${word%%=*}=" value="${word#*=}" key="${word%%=*}" key="${key#[\"\']}"
    start="${start#[\"\']}"
  fi
  case "$command:$key" in
CASES
  esac
  if [ -z "$key" ]; then
    COMPREPLY=($(compgen -S "=" -W "$names" -- "$word"))
    compopt -o nospace 2>/dev/null
    return
  fi
  head="${value%"${value##*[\[,]}"}" # of a list, the names that stand already
  COMPREPLY=($(compgen -P "$start$head" -W "$names" -- "${value#"$head"}"))
}
complete -F _attnbench attnbench
