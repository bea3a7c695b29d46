# bash completion for criruntime(8)
_criruntime() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
	case $prev in
	--config | -c) COMPREPLY=($(compgen -f -- "$cur")) ;;
	config) COMPREPLY=($(compgen -W "default check" -- "$cur")) ;;
	check)
		if [[ ${COMP_WORDS[COMP_CWORD-2]} == config ]]; then
			COMPREPLY=($(compgen -f -- "$cur"))
		else
			COMPREPLY=($(compgen -W "--config" -- "$cur"))
		fi
		;;
	serve) COMPREPLY=($(compgen -W "--config" -- "$cur")) ;;
	criruntime) COMPREPLY=($(compgen -W "serve config check version help --config" -- "$cur")) ;;
	esac
}
complete -F _criruntime criruntime
