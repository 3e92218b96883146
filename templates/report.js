(() => {
  "use strict";
  const key = (row, i) => {
    const cell = row.cells[i];
    return cell.dataset.k === undefined ? cell.textContent : Number(cell.dataset.k);
  };
  const order = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  for (const table of document.querySelectorAll("table.sort")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const rows = [...table.tBodies[0].rows];
        const was = head.getAttribute("aria-sort");
        const down = was ? was === "ascending" : typeof key(rows[0] || head.parentNode, i) === "number";
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const sorted = rows.map((row) => [key(row, i), row]).sort((a, b) => order(a[0], b[0]));
        if (down) sorted.reverse();
        table.tBodies[0].append(...sorted.map((pair) => pair[1]));
      });
    });
  }
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  let held = null;
  const leave = () => {
    if (held) held[0].append(held[1]);
    held = null;
    tip.hidden = true;
  };
  document.addEventListener("pointerover", (event) => {
    leave();
    const mark = event.target.closest && event.target.closest(".mark");
    const title = mark && mark.querySelector("title");
    if (!title) return;
    // The browser would show its own beside ours.
    held = [mark, title];
    title.remove();
    tip.textContent = title.textContent;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(event.clientX + 12, innerWidth - box.width - 4)) + "px";
    tip.style.top = Math.max(4, event.clientY - box.height - 12) + "px";
  });
  addEventListener("scroll", leave, { passive: true });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
})();
