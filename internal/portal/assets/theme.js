// Runs before the page is drawn, so that a chosen theme does not flash. In a frame, storage may be closed: then the
// system's theme is all there is.
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  try {
    const chosen = localStorage.getItem("postrider-theme");
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch {}
})();
