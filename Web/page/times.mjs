const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const inFull = new Intl.DateTimeFormat('en', { dateStyle: 'full', timeStyle: 'short' });
const date = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short' });
const dateAndYear = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short', year: 'numeric' });

/** A time of the past in few words, such as “5 minutes ago”, “yesterday” or “3 May”. */
export function ago(time, now = Date.now()) {
  const since = now - time;
  if (since < minute) return 'just now';
  if (since < hour) return relative.format(-Math.floor(since / minute), 'minute');
  if (since < day) return relative.format(-Math.floor(since / hour), 'hour');
  if (since < 7 * day) return relative.format(-Math.floor(since / day), 'day');
  const then = new Date(time);
  return (then.getFullYear() === new Date(now).getFullYear() ? date : dateAndYear).format(then);
}

/** Fills in a `<time>`. */
export function showTime(node, time) {
  const then = new Date(time);
  node.dateTime = then.toISOString();
  node.title = inFull.format(then);
  node.textContent = ago(time);
}

/** Says anew how long ago each `<time>` in sight was. */
export function refreshTimes() {
  for (const node of document.querySelectorAll('time')) {
    const text = ago(Date.parse(node.dateTime));
    if (node.textContent !== text) node.textContent = text;
  }
}
