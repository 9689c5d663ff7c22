# Prints the targets of makefiles by their comments. A line `##@ Title` begins a section, and lines `## text` describe
# the target that follows them. A description without a target is an error: help would name nothing for it.
/^##@ / { section = substr($0, 5); next }
/^## / { text = text (text == "" ? "" : "\n" sprintf("  %-18s ", "")) substr($0, 4); next }
text != "" && /^[a-z][a-z-]*:/ {
  if (section != "") { printf "%s%s\n", (printed++ ? "\n" : ""), section; section = "" }
  name = $0
  sub(/:.*/, "", name)
  printf "  %-18s %s\n", "make " name, text
  text = ""
  next
}
text != "" { print FILENAME ":" FNR ": no target follows its description" > "/dev/stderr"; exit 1 }
