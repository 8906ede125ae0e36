"""English words that can name what is seen in a photo, chosen by reading.

No rule on spelling or frequency tells "pattern" from "opinion", and none keeps insults out
of people's reports. What is not here is never shown unless the user asks for it. Words
about people name what they wear, hold or do, never who they are. "Photo" and "picture"
are left out, for they name every photo.
"""

from __future__ import annotations

_WORDS = """
animal alligator ant antelope ape badger bat bear beast beaver bee beetle bird bison boar buffalo
bug bull bunny butterfly camel cat caterpillar cattle cheetah chick chicken chimpanzee clam cobra
cow coyote crab crane cricket crocodile crow cub deer dinosaur dog dolphin donkey dove dragon
dragonfly duck eagle eel elephant elk falcon ferret fish flamingo fox frog goat goldfish goose
gorilla grasshopper gull hamster hare hawk hedgehog hen herd heron hippo hog horse hound
hummingbird hyena iguana insect jaguar jellyfish kangaroo kitten koala ladybug lamb leopard lion
lizard lobster lynx mammal meerkat mole monkey moose mosquito moth mouse mule octopus ostrich otter
owl oyster panda panther parrot peacock pelican penguin pet pig pigeon pony poodle puppy quail
rabbit raccoon ram raven reptile rhino rhinoceros rooster salmon scorpion seahorse seal shark sheep
shell shrimp skunk sloth slug snail snake sparrow spider squid squirrel starfish stork swan terrier
tiger toad tortoise toucan trout tuna turkey turtle vulture walrus wasp weasel whale wolf
woodpecker worm zebra beak claw fang feather fin fleece fur hoof horn antlers mane paw scales snout
tail tentacle tusk whiskers wing wings wool web cobweb nest hive egg flock swarm coral reef

tree trees acorn bamboo bark berry birch blossom botanical bouquet branch bud bush cactus cedar
clover cypress daffodil daisy dandelion elm evergreen fern fir floral flower flowers foliage fungus
grass hay hedge herb ivy leaf leaves lily log maple moss mushroom oak orchid palm petal pine plant
plants poppy redwood reed root rose seaweed seed shrub stem straw stump sunflower thistle thorn
tulip twig vine weed wheat willow crop lawn jungle orchard vineyard corn rice

apple almond apricot asparagus avocado bacon bagel baguette banana bean beef beer berries beverage
biscuit blackberry blueberry bread breakfast broccoli broth burger burrito butter cabbage cake
candy cappuccino caramel carrot cauliflower celery cereal cheese cheeseburger cherry chili chips
chocolate cider cinnamon cocktail cocoa coconut coffee cookie cracker cranberry cream cucumber
cupcake curry custard dessert dinner dough doughnut dumpling eggplant espresso flour food fries
fruit garlic ginger grape grapefruit grapes gravy grill guacamole ham hamburger herbs honey icing
jam jelly juice ketchup lasagna lemon lemonade lettuce lime lunch macaroni mango margarita
marshmallow mayonnaise meal meat meatball melon milk mint muffin mustard nachos noodle noodles nut
nuts oatmeal olive omelette onion orange pancake papaya pasta pastry pea peach peanut pear peas
pepper pickle pie pineapple pizza plum popcorn pork potato potatoes pretzel pudding pumpkin radish
raisin raspberry roast salad salsa sandwich sauce sausage seafood sesame shellfish snack soda soup
spaghetti spice spinach sprout squash steak stew strawberry sugar sushi syrup taco tart tea toast
tofu tomato turnip vanilla vegetable vegetables vinegar vodka waffle walnut watermelon whiskey wine
yogurt zucchini

person people adult baby boy child children crowd couple family girl kid kids man men newborn
teenager toddler woman women angler archer artist astronaut athlete baker band barber bartender
boxer bride builder butcher captain cheerleader chef choir climber clown coach commuter conductor
cook cowboy cyclist dancer diver doctor driver farmer fighter firefighter fisherman gardener goalie
golfer graduate groom guard guitarist gymnast hiker hunter jockey knight lifeguard mechanic
musician nurse painter passenger pedestrian photographer pianist pilot pirate player plumber police
policeman princess rider runner sailor scientist scout sculptor shopper singer skater skier soldier
spectator student surfer surgeon swimmer teacher team tourist vendor waiter waitress warrior welder
worker wrestler

face ankle arm arms beard belly body bone brain braid cheek chest chin curls ear earlobe elbow eye
eyebrow eyelashes eyes feet finger fingernail fingers fist foot forehead hair haircut hairstyle
hand hands head heart heel hip jaw knee knuckle leg legs lip lips lungs moustache mouth muscle
mustache nail nails neck nose ponytail rib selfie shoulder shoulders skeleton skin skull smile
spine stomach tattoo teeth thigh throat thumb toe toes tongue tooth torso waist wrist wrinkles
freckles hug kiss handshake silhouette shadow

clothes clothing apparel apron armor backpack badge ballgown bandage bandana bathrobe belt beret
bikini blanket blazer blouse boot boots bow bowtie bra bracelet briefcase briefs buckle button
buttons cap cape cardigan cloak coat collar corset costume crown cuff denim diaper dress earring
earrings eyeglasses fabric footwear garment glasses glove gloves goggles gown handbag handkerchief
hat headband headdress headphones headscarf heels helmet hood hoodie jacket jean jeans jersey jewel
jewelry jumper kilt kimono knot lace leather leggings lingerie lipstick locket loafers makeup mask
mitten mittens necklace outfit overalls overcoat pajamas pants parka pearl pendant pin pocket polo
poncho purse pyjamas raincoat ribbon ring robe sandal sandals sari sash satchel scarf seam shawl
shirt shoe shoelace shoes shorts skirt sleeve sleeves slipper slippers sneaker sneakers sock socks
sombrero spectacles stocking stockings strap suit suitcase suspenders sunglasses sweater sweatshirt
swimsuit swimwear tartan tassel textile thread tiara tie tights trousers trunks tuxedo tweed
umbrella underwear uniform veil vest waistcoat wallet wardrobe watch wedding wetsuit wig yarn
zipper

velvet silk satin cotton linen nylon flannel knit embroidery quilt crochet lining stitch fringe
cloth rag

red yellow green blue purple pink brown black white gray grey silver gold golden beige bronze
copper crimson cyan ivory khaki lavender magenta maroon navy scarlet tan teal turquoise violet
blonde colorful colourful dark bright pale blurry transparent shiny glossy metallic neon fluffy
furry fuzzy hairy spiky wrinkled smooth rough rusty dusty dirty muddy wet dry frozen icy snowy
sandy rocky grassy leafy cloudy foggy misty rainy sunny stormy wooden plastic woolen knitted woven
braided quilted embroidered striped spotted dotted checkered plaid patterned curly wavy round
square circular rectangular triangular oval spiral curved straight diagonal vertical horizontal
flat sharp pointed hollow cracked torn folded stacked empty crowded tall narrow wide tiny huge

arc arch arrow ball bar bead blob border bubble bubbles bump chain checkerboard circle circles coil
cone corner crack cross cube curve cylinder diamond disc disk dot dots edge flame flames foam frame
gap globe grain grid groove heap hexagon hole holes honeycomb icicle knob ladder lattice layer line
lines loop maze mesh mosaic net pattern pile pixel polygon puddle pyramid rectangle ridge ripple
ripples row shape sheet slot spark speck sphere spike spikes splash spot spots spray stack stain
star stars steam streak string stripe stripes swirl symbol texture triangle tube wave waves wheel
zigzag smoke mist fog mirror reflection background glare blur

wood metal aluminum brass brick bricks cardboard cement ceramic chalk charcoal clay coal concrete
crystal dirt dust ember enamel fiber fiberglass foil gasoline gem glass glitter glue granite gravel
ice iron limestone marble mortar mud oil ore paint paper pebble pebbles plaster porcelain powder
quartz resin rock rocks rubber ruby rug rust salt sand sandstone sapphire silicon slate snow soap
soil steel stone stones tar tile tiles timber vinyl wax wire emerald asphalt graffiti

sky cloud clouds sun moon rainbow lightning rain storm tornado hurricane blizzard frost snowflake
sunlight sunrise sunset dawn dusk night galaxy nebula planet comet eclipse earth horizon fire
bonfire campfire fireworks explosion lava volcano avalanche water sea ocean lake river stream creek
pond pool swamp marsh bay beach coast shore island lagoon harbor canal waterfall fountain glacier
iceberg flood mountain mountains hill hills valley canyon cliff cave crater desert dune field
forest meadow prairie savanna rainforest woodland landscape garden park path trail peak peninsula
terrain pasture farm farmland plain summit surf wilderness seaside seashore

building buildings airport aisle alley apartment aquarium arena attic auditorium bakery balcony
ballroom bank barn barrack barracks basement basilica bathroom bedroom bookshop bookstore boulevard
bowling brewery bridge bunker butchery cabin cafe cafeteria campus carnival carousel casino castle
cathedral ceiling cellar cemetery chapel chimney church cinema circus city classroom clinic closet
column construction corridor cottage court courthouse courtyard crosswalk dam deck deli diner dock
dome door doorway dormitory downtown driveway drugstore dungeon elevator entrance escalator facade
factory fence fireplace floor forge fort fortress garage gate gazebo grandstand graveyard
greenhouse grocery gym gymnasium hall hallway hangar harbour highway home hospital hotel house hut
igloo inn intersection jail kindergarten kitchen kiosk laboratory library lighthouse lobby lodge
loft mall mansion market marketplace mausoleum mill minaret monastery monument mosque motel museum
nightclub nursery observatory office pagoda palace parking parlor patio pavement pavilion pedestal
pharmacy pier pillar plaza playground porch port prison pub quarry racetrack railing railroad
railway ramp restaurant road roof rooftop room ruins runway salon sauna school shack shed shelter
shop shrine sidewalk silo skyline skyscraper spa stable stadium stage staircase stairs stall
station statue steeple store street studio suburb subway supermarket synagogue tavern temple
terrace theater theatre throne tomb tower town track tunnel village villa wall walls warehouse
waterfront windmill window windows workshop yard zoo scaffolding skate

aircraft airplane airship ambulance anchor automobile balloon barge bicycle bike boat bulldozer
bumper bus cab camper canoe car caravan carriage cart cockpit convertible convoy cruise dashboard
engine excavator ferry forklift freighter gondola gears glider headlight helicopter hovercraft hull
jeep jet kayak limousine lifeboat locomotive lorry mast minivan moped motor motorbike motorcycle
oar paddle parachute pedal plane propeller raft rail rickshaw rocket rudder saddle sail sailboat
satellite scooter shuttle ship skateboard sled snowmobile snowplow spacecraft spacesuit speedboat
stroller submarine suv tank tanker taxi tire tires tow tractor traffic trailer train tram tricycle
truck tugboat tyre van vehicle vessel wagon warship wheelchair wheels windshield wreck yacht

furniture armchair bassinet bathtub bed bench bookcase bookshelf cabinet carpet chair chairs couch
counter cradle crib cupboard curtain curtains cushion desk drawer dresser hammock lamp lantern
lampshade mantel mat mattress pillow rack seat shelf shelves sink sofa stool table tapestry toilet
tub upholstery vase wallpaper chandelier candle candlestick candles radiator heater stove oven
microwave refrigerator fridge freezer dishwasher toaster blender kettle teapot coffeepot pot pan
skillet wok tray plate plates platter dish dishes bowl cup cups mug saucer goblet jar jug pitcher
bottle bottles cans carton cask barrel bucket basket bin box boxes crate container envelope package
packet bag bags sack pouch fork knife knives spoon chopsticks ladle spatula whisk corkscrew opener
napkin tablecloth towel sponge broom mop vacuum brush comb hairbrush razor scissors shampoo
toothbrush toothpaste perfume lotion faucet shower tissue hanger hook washer dryer laundry
thermostat lock padlock key keys doorknob doorbell doormat bell

tool tools anvil axe blade bolt chisel clamp crowbar drill file hammer hatchet hinge hoe hose lever
lawnmower machete mallet needle pipe pipes plow pliers plunger pulley pump rake rope ropes ruler
screw screwdriver shovel spade spring syringe thermometer tongs torch trowel tweezers valve wrench
chainsaw cable cables cord plug switch socket bulb flashlight lightbulb matches lighter fan

computer keyboard laptop monitor screen tablet phone telephone smartphone cellphone iphone camera
lens tripod projector printer radio television speaker speakers microphone headset remote joystick
console robot drone antenna circuit chip battery clock hourglass sundial stopwatch calculator
calendar typewriter scanner microscope telescope binoculars compass scale stethoscope pill pills
crutch

book books magazine newspaper comic notebook diary menu map page document letters text handwriting
word numbers label logo sign signs poster banner billboard flag flags postcard stamp ticket receipt
card cards chart diagram graph barcode crossword calligraphy font stationery pen pencil pencils
crayon eraser marker stapler clipboard folder painting drawing sketch cartoon portrait sculpture
mural artwork canvas easel palette puzzle doll teddy toy toys puppet puppets dice chess domino kite
balloons marionette figurine mannequin scarecrow snowman gift ornament garland wreath lego
blackboard whiteboard money coin coins cash trophy medal fossil relic idol totem coffin tombstone
gravestone crucifix altar pulpit

instrument accordion banjo bagpipes bassoon bugle cello clarinet cornet cymbal drum drums flute
gong guitar harmonica harp maraca oboe organ orchestra piano saxophone trombone trumpet tuba
ukulele viola violin whistle xylophone record concert

sport sports archery badminton baseball basketball billiards boxing cycling dance dancing diving
fencing fishing football golf gymnastics hiking hockey hunting hurdle jogging judo karate kayaking
marathon parade picnic race racing riding rowing rugby running sailing skating skateboarding skiing
sledding snowboard snowboarding soccer softball surfing swimming swing tennis volleyball walking
weightlifting wrestling yoga climbing cooking racket racquet puck barbell dumbbell treadmill
trampoline target goal surfboard ski skis snorkel golfing frisbee tent sleeping eating drinking
sitting standing jumping flying reading smoking party ceremony festival protest

weapon ammunition bayonet bomb bullet cannon cartridge crossbow dagger grenade gun handgun holster
missile pistol revolver rifle shield shotgun spear sword torpedo whip

trash garbage rubbish litter dumpster mailbox hydrant pole post lamppost streetlight parasol barbed
barrier cage kennel leash birdhouse trap bait reel harness horseshoe stirrup wheelbarrow sprinkler
flowerpot pottery beads bonnet bib pacifier rattle sandbox slide seesaw treehouse
"""

VISIBLE_WORDS: tuple[str, ...] = tuple(dict.fromkeys(_WORDS.split()))
