// In a shortcut's field, the key that is pressed is the key that is meant.
"use strict";

document.addEventListener("keydown", (event) => {
  if (!event.target.matches?.("[data-key-capture]") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (["Tab", "Enter", "Escape", "Shift"].includes(event.key)) return;
  event.preventDefault();
  event.target.value = event.key === "Backspace" || event.key === "Delete" ? "" : event.key;
});
