// The desk's page, for the files beside this one: where its parts are, and how it tells what happened.
"use strict";

const deskPage = (() => {
  const desk = () => document.getElementById("desk");
  const answerForm = () => document.getElementById("answer");
  const text = (name) => document.getElementById("desk-texts").dataset[name];

  function say(sentence) {
    document.getElementById("desk-status").textContent = sentence;
  }

  function warning(sentence) {
    const notice = document.createElement("p");
    notice.className = "notice notice-warn";
    notice.textContent = sentence;
    return notice;
  }

  function tell(notices) {
    document.getElementById("desk-notice").replaceChildren(...notices);
  }

  function warn(sentence) {
    tell(sentence ? [warning(sentence)] : []);
  }

  return { desk, answerForm, text, say, warning, tell, warn };
})();
