package train

import "strings"

// The words of needles: keys and values of Words, keys of Digits. No word stands in two lists.
var needleKeys = strings.Fields(`
country work war year power policy business nation treaty matter trade bill action attention revenue state strength
commerce friend condition cost home life session vessel control debt place course spirit school population change
faith opportunity cause measure education coast price method danger industry service system subject consideration
security commission credit deal extent farm hand need lead end fact line care use show
`)

var needleValues = strings.Fields(`
law time interest peace tax order question progress force history claim capital future object reason purpose view
success child period land plan day product labor form freedom character favor month market ship port property minister
budget growth gold settlement tariff event million health people money territory support community welfare conduct
opinion command banks help way cut part mark case sum return trust
`)

var needleNames = strings.Fields(`
Abel Agnes Albert Alice Ambrose Anna Arthur Beatrice Bernard Blanche Caleb Clara Conrad Cora Daniel Delia Edgar Edith
Elias Emma Felix Flora Frank Gerald Grace Hannah Harold Helen Henry Hugo Ida Irene Isaac Ivan Jacob Jane Joel Julia
Karl Laura Leon Lucy Mabel Marcus Martha Miles Nora Oliver Oscar Paula Peter Quentin Rachel Ralph Rose Rupert Ruth
Silas Stella Thomas Ursula Victor Walter Wanda
`)
