// Runs before the first paint, so that a chosen theme does not flash. Without a choice the system's preference counts.
(() => {
  const KEY = "swapline.theme";
  const read = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage may be forbidden; then the choice lasts as long as the page
    }
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = (theme) => {
    document.documentElement.dataset.theme = theme ?? (system.matches ? "dark" : "light");
    dispatchEvent(new Event("themechange"));
  };
  let chosen = read();
  apply(chosen);
  system.addEventListener("change", () => chosen ?? apply(null));
  addEventListener("storage", () => apply((chosen = read()))); // chosen in another tab
  globalThis.swaplineTheme = {
    current: () => document.documentElement.dataset.theme,
    toggle: () => {
      chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try {
        localStorage.setItem(KEY, chosen);
      } catch {
        // as above
      }
      apply(chosen);
    },
  };
})();
