// Dark or light: as the system says until the reader chooses.

function storedTheme() {
  try {
    return localStorage.getItem("swapline-theme");
  } catch {
    return null; // pages from a folder may have no storage
  }
}

function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
  window.page?.lanes.draw();
}

function systemTheme() {
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function toggleTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  applyTheme(theme);
  try {
    localStorage.setItem("swapline-theme", theme);
  } catch {
    // then it holds for this page only
  }
}

applyTheme(storedTheme() ?? systemTheme());
// Another page of the report was switched, in another tab or a moment ago: the browser tells it after this one is open.
addEventListener("storage", () => applyTheme(storedTheme() ?? systemTheme()));
document.addEventListener("DOMContentLoaded", () => document.getElementById("theme").addEventListener("click", toggleTheme));
