// The small part that a browser does by itself: refreshing, local times, selecting, copying. All pages and actions work
// without it.
"use strict";

(() => {
  const every = Number(document.body.dataset.every || 5) * 1000;
  const find = (selector, within = document) => [...within.querySelectorAll(selector)];
  const live = () => document.getElementById("live");

  // Times are written in UTC by the server. Here they become local; their titles keep UTC.
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const shortFormat = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  const isToday = (at) => at.toDateString() === new Date().toDateString();
  const showLocalTimes = () => {
    for (const time of find("time:not([data-kept])")) {
      const at = new Date(time.dateTime);
      const isShort = "short" in time.dataset && isToday(at);
      if (!Number.isNaN(at.getTime())) time.textContent = (isShort ? shortFormat : format).format(at);
    }
  };

  // A page is refreshed unless it is hidden, or the visitor is about to do something with it.
  const isInUse = () => {
    const page = live();
    const focused = document.activeElement;
    return (
      find("input[name=id]:checked", page).length > 0 ||
      find("details[open]", page).length > 0 ||
      (page.contains(focused) && focused.matches("input:not([type=checkbox]), select, textarea")) ||
      (!getSelection().isCollapsed && page.contains(getSelection().anchorNode))
    );
  };
  const pulse = document.getElementById("pulse");
  const showPulse = (state, text) => {
    if (!pulse || pulse.dataset.state === state) return;
    pulse.dataset.state = state;
    pulse.textContent = text;
    pulse.hidden = false;
  };
  const refresh = () => {
    if (document.hidden || !isRefreshed()) return;
    if (isInUse()) return showPulse("paused", "Paused");
    live().dispatchEvent(new Event("refresh"));
  };
  const isRefreshed = () => live() !== null && live().hasAttribute("hx-get");

  // A stream reports changes of the page. It is closed while the page is hidden, since a browser has few connections
  // to a server. A stream that is refused is opened anew at the next turn; one that breaks is opened by the browser.
  let stream = null;
  const listen = () => {
    const url = live().dataset.changes;
    if (stream && (document.hidden || stream.readyState === EventSource.CLOSED)) {
      stream.close();
      stream = null;
    }
    if (stream || document.hidden || !url) return;
    stream = new EventSource(url);
    stream.addEventListener("open", refresh); // what has changed before
    stream.addEventListener("changed", refresh);
  };

  // While the stream is open, a page is refreshed at each third turn only, for ages, rates and pauses.
  let turns = 0;
  const turn = () => {
    listen();
    turns += 1;
    const isStreaming = stream && stream.readyState === EventSource.OPEN && pulse.dataset.state === "live";
    if (!isStreaming || turns % 3 === 0) refresh();
  };
  if (isRefreshed()) {
    showPulse("live", "Live");
    listen();
    setInterval(turn, every);
    document.addEventListener("visibilitychange", () => {
      listen();
      refresh();
    });
    document.addEventListener("htmx:after:request", (event) => {
      const response = event.detail.ctx && event.detail.ctx.response;
      if (response && (response.status < 400 || response.status === 404)) showPulse("live", "Live");
      else showPulse("away", "No answer");
    });
    document.addEventListener("htmx:error", () => showPulse("away", "No answer"));
    document.addEventListener("htmx:before:swap", (event) => {
      // An answer without the content, such as the page of a login, does not replace it.
      if (!(event.detail.ctx.text || "").includes('id="live"')) event.preventDefault();
    });
    document.addEventListener("htmx:after:swap", () => prepare());
  }

  // Selecting jobs.
  const showSelection = () => {
    for (const form of find("form.jobs")) {
      const boxes = find("input[name=id]", form);
      const count = boxes.filter((box) => box.checked).length;
      for (const button of find("[data-needs-selection]", form)) button.disabled = count === 0;
      for (const text of find("[data-selected]", form)) {
        text.textContent = count ? `With ${count} selected:` : "With selected jobs:";
      }
      for (const all of find("[data-all]", form)) {
        all.hidden = false;
        all.checked = count > 0 && count === boxes.length;
        all.indeterminate = count > 0 && count < boxes.length;
      }
    }
  };
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) {
      for (const box of find("input[name=id]", event.target.form)) box.checked = event.target.checked;
    }
    showSelection();
    refreshLater();
  });
  const refreshLater = () => {
    if (isInUse()) showPulse("paused", "Paused");
  };
  document.addEventListener("toggle", refreshLater, true);

  // Copying: the old way works on pages without https, too.
  const copy = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy], [data-copy-from]");
    if (!button) return;
    const source = button.dataset.copyFrom && document.getElementById(button.dataset.copyFrom);
    await copy(source ? source.textContent : button.dataset.copy || "");
    button.textContent = "Copied";
    button.focus();
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });

  // Keys: a slash goes to the filter of the page, or to the search; Escape closes menus.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      for (const menu of find("details.menu[open]")) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
      if (document.activeElement.matches("input")) document.activeElement.blur();
    }
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select, textarea")) return;
    const field = document.querySelector("[data-filter]") || document.querySelector(".search input");
    if (field) {
      event.preventDefault();
      field.focus();
      field.select();
    }
  });

  const prepare = () => {
    showLocalTimes();
    showSelection();
    for (const button of find(".copy")) button.hidden = false;
  };
  for (const key of find("kbd")) key.hidden = false;
  prepare();

  // A note is shown once: a reload of the page does not repeat it.
  const url = new URL(location.href);
  if (url.searchParams.has("done")) {
    url.searchParams.delete("done");
    url.searchParams.delete("count");
    history.replaceState(null, "", url);
  }
})();
