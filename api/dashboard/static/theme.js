// Light, dark, or as the system has it. Not a module: it must have run before anything is painted.
"use strict";
(() => {
  const root = document.documentElement;
  const NAMES = ["auto", "light", "dark"];

  function chosen() {
    try {
      return NAMES.includes(localStorage.theme) ? localStorage.theme : "auto";
    } catch {
      return "auto"; // a browser that keeps nothing
    }
  }

  function show(name) {
    root.dataset.theme = name;
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${name}`;
  }

  show(chosen());
  document.addEventListener("DOMContentLoaded", () => {
    show(chosen());
    document.getElementById("theme").addEventListener("click", () => {
      const next = NAMES[(NAMES.indexOf(root.dataset.theme) + 1) % NAMES.length];
      try {
        localStorage.theme = next;
      } catch {
        // It holds for this page then.
      }
      show(next);
    });
  });
})();
