// Light or dark as Airflow is, before anything is painted: from the window around us, else from what Airflow remembers.
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function surroundings() {
    try {
      return window.parent === window ? null : window.parent.document.documentElement;
    } catch {
      return null; // somebody else's window
    }
  }

  function remembered() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  }

  function wanted() {
    const around = surroundings();
    if (around?.classList.contains("dark")) return "dark";
    if (around?.classList.contains("light")) return "light";
    const theme = remembered();
    return theme === "dark" || theme === "light" ? theme : dark.matches ? "dark" : "light";
  }

  function apply() {
    if (root.dataset.theme === wanted()) return;
    root.dataset.theme = wanted();
    window.dispatchEvent(new Event("themechange"));
  }

  apply();
  dark.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  const around = surroundings();
  if (around) {
    root.classList.add("framed");
    new MutationObserver(apply).observe(around, { attributeFilter: ["class"] });
  }
})();
